"""Apache Airflow provider for the CloseAI platform: sub-accounts, costs and API bases, each stated once."""

__version__ = "0.1.0"

#: The documentation's URL: the platform's own until this project's is published; from then on ``{page}`` in
#: it stands for a file of docs/.
DOCS_URL = "https://doc.closeai-asia.com/"
