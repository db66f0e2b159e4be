"""A team's service of ``make demo``: asks a model again and again, and knows a connection's name only.

Ends when its input does, and prints how many calls were served, how many were not, and how many keys it had.
"""

from __future__ import annotations

import json
import select
import sys
from typing import Any


def main() -> int:
    from airflow.providers.openai.hooks.openai import OpenAIHook
    from openai import OpenAIError

    messages: list[Any] = [{"role": "user", "content": "Hello"}]
    served = failed = 0
    keys: set[str] = set()
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        try:
            hook = OpenAIHook(conn_id="openai-team-search")
            keys.add(hook.get_conn().api_key)
            hook.create_chat_completion(messages, model="gpt-4o")
            served += 1
        except OpenAIError:
            failed += 1
        except Exception as error:  # before the first key is there, Airflow knows no such connection
            failed += type(error).__name__ != "AirflowNotFoundException" or served > 0
    print(json.dumps({"served": served, "failed": failed, "keys": len(keys)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
