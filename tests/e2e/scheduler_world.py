"""One Airflow, and all that the DAGs of test_scheduler.py talk to."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path

from aws_standin import Aws, connection_to
from crashes import CRASHES, Scene
from cryptography.fernet import Fernet
from days import EXAMPLES
from deployment import Deployment
from platforms import Platform
from vault_standin import Vault
from worlds import AIRFLOW

HERE = Path(__file__).parent
HAS_STATE_STORE = AIRFLOW >= (3, 3)

SCENES = {
    f"{crash.name}{', a base dies' * base_dies}": (crash, base_dies)
    for base_dies in (False, True)
    for crash in CRASHES
}

NOWHERE = {
    "endpoint_url": "http://127.0.0.1:9",
    "region_name": "eu-central-1",
    "config_kwargs": {"retries": {"max_attempts": 1}},
}


class World:
    """The Airflow and all that it talks to."""

    def __init__(self, home: Path) -> None:
        self.scenes = {
            name: Scene(crash, base_dies, Platform(f"crash_{number}"))
            for number, (name, (crash, base_dies)) in enumerate(SCENES.items())
        }
        self.examples = Platform("closeai_default", {"health_ttl": 0.01, "discovery_ttl": 0.01})
        self.pooled, self.unpooled, self.keys = Platform("pooled"), Platform("unpooled"), Platform("keys")
        self.refused = Platform("refused", {"max_attempts": 2})
        self.wrong_key = Platform("wrong_key", key=made_up_key())
        self.platforms = [
            *(scene.platform for scene in self.scenes.values()),
            self.examples,
            self.pooled,
            self.unpooled,
            self.keys,
            self.refused,
            self.wrong_key,
        ]
        for platform in self.platforms:
            platform.simulator.start()
        for index in range(2):
            self.refused.simulator.stop_base(index)
        self.aws = Aws()
        self.aws.start()
        self.vault = Vault()
        self.vault.start()
        places = ("xcom", "log", "stdout", "base64", "variable", "file", "exception", "serialized_dag")
        self.planted = {place: made_up_key() for place in (*places, "conf", "rendered")}
        if HAS_STATE_STORE:
            self.planted["task_state"] = made_up_key()
        planted = home / "planted.json"
        planted.write_text(json.dumps(self.planted))
        self.literal = self.keys.simulator.add_account("literal")["token"]
        environment = {
            **{name: text for each in self.platforms for name, text in each.environment.items()},
            "AIRFLOW_CONN_AWS_DEFAULT": self.aws.connection(),
            "AIRFLOW_CONN_AWS_DOWN": connection_to(NOWHERE),
            "AIRFLOW_CONN_VAULT_DEFAULT": self.vault.connection(),
            "AIRFLOW_CONN_FILE_KEY": json.dumps(
                {"conn_type": "generic", "password": Fernet.generate_key().decode()}
            ),
            "AIRFLOW_VAR_E2E_SKS": self.keys.simulator.add_account("by-key")["token"],
            "AIRFLOW_VAR_E2E_PLANTED_RENDERED": self.planted["rendered"],
            "E2E_PLANTED": str(planted),
            "CLOSEAI_COSTS": str(home / "airflow" / "costs"),
        }
        self.airflow = Deployment(home / "airflow", environment)
        self.airflow.has_state_store = HAS_STATE_STORE
        for path in [*(HERE / "dags").glob("*.py"), *EXAMPLES]:
            shutil.copy(path, self.airflow.dags)
        (self.airflow.dags / "e2e_literal.py").write_text(LITERAL.format(key=self.literal))
        try:
            self.airflow.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self.airflow.stop()
        self.aws.stop()
        self.vault.stop()
        for platform in self.platforms:
            platform.simulator.stop()

    @property
    def secrets(self) -> set[str]:
        return {key for platform in self.platforms for key in platform.secrets}


LITERAL = """
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_closeai.operators.sub_accounts import UpdatePricingOperator
with DAG("e2e_literal", schedule=None, catchup=False):
    UpdatePricingOperator(
        task_id="reprice", sks=["{key}"], model_pricing={{"gpt-4": 2}}, closeai_conn_id="keys"
    )
"""


def made_up_key() -> str:
    return f"sk-{secrets.token_hex(24)}"
