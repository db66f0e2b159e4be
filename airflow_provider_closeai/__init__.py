"""Apache Airflow provider for the CloseAI platform: sub-accounts, costs and API bases, each stated once."""

__version__ = "0.1.0"
