"""Does the I/O of all writes: reads, sends, waits and notes as the decisions say, by the client's clock."""

from airflow_provider_closeai.provisioning.runner.creating import create, create_all
from airflow_provider_closeai.provisioning.runner.deleting import delete
from airflow_provider_closeai.provisioning.runner.repricing import reprice
from airflow_provider_closeai.provisioning.runner.rotating import Rotation, rotate
from airflow_provider_closeai.provisioning.runner.tries import Try

__all__ = ["Rotation", "Try", "create", "create_all", "delete", "reprice", "rotate"]
