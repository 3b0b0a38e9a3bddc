"""Keeps callers of Anthropic's official SDK busy for some time, as a program with
many workers would.

Takes one JSON object as its argument (see Load in load.go) and writes one to the
standard output: for each tenant, what became of its calls. The SDK's retries are left
as they are by default.
"""

import collections
import json
import sys
import threading
import time

import anthropic


def call_until(end, client, wanted, count, lock):
    while time.monotonic() < end:
        started = time.monotonic()
        retries, failed = 0, None
        try:
            retries = client.messages.with_raw_response.create(**wanted).retries_taken
        except anthropic.APIStatusError as e:
            failed = f"{type(e).__name__} {e.status_code}"
        except Exception as e:  # whatever the HTTP library raises
            failed = f"{type(e).__name__}: {e}"
        with lock:
            count["calls"] += 1
            count["retries"] += retries
            count["longest"] = max(count["longest"], time.monotonic() - started)
            if failed:
                count["failed"] += 1
                count["errors"][failed] += 1


def main():
    load = json.loads(sys.argv[1])
    client = anthropic.Anthropic(base_url=load["base_url"], api_key="test-key-of-nobody-1234")
    lock = threading.Lock()
    counts, callers = {}, []
    end = time.monotonic() + load["seconds"]
    for tenant, n in load["tenants"].items():
        counts[tenant] = {"calls": 0, "failed": 0, "retries": 0, "longest": 0, "errors": collections.Counter()}
        wanted = {
            "model": load["model"],
            "max_tokens": load["max_tokens"],
            "messages": [{"role": "user", "content": load["text"]}],
            "extra_headers": {"x-llm-org": load["org"], "x-llm-tenant": tenant},
        }
        for _ in range(n):
            callers.append(threading.Thread(target=call_until, args=(end, client, wanted, counts[tenant], lock)))
    for c in callers:
        c.start()
    for c in callers:
        c.join()
    print(json.dumps(counts), flush=True)


main()
