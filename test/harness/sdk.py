"""Calls Anthropic's Messages API through the official SDK, as a program would.

Takes the base URL as its argument, reads calls from the standard input, one JSON
object a line, and writes what came of each as a line of its own. See sdk.go for the
fields.
"""

import json
import sys
import time

import anthropic


def send(client, c):
    wanted = {
        "model": c["model"],
        "max_tokens": c["max_tokens"],
        "messages": [{"role": "user", "content": c["text"]}],
        "extra_headers": c["headers"] or {},
    }
    options = {"max_retries": c["max_retries"]}
    if c["timeout"]:
        options["timeout"] = c["timeout"]
    messages = client.with_options(**options).messages
    raw = messages.with_raw_response.create(**wanted, stream=c["stream"])
    got = {"retries": raw.retries_taken, "status": raw.status_code}
    if not c["stream"]:
        message = raw.parse()
        return got | {"text": "".join(b.text for b in message.content), "usage": message.usage.to_dict()}
    got |= {"text": "", "usage": {}, "events": []}
    with raw.parse() as stream:
        for event in stream:
            got["events"].append(event.type)
            if event.type == "message_start":
                got["usage"].update(event.message.usage.to_dict())
            elif event.type == "message_delta":
                got["usage"].update(event.usage.to_dict())
            elif event.type == "content_block_delta":
                got["text"] += event.delta.text
            if len(got["events"]) == c["abort_after"]:
                break  # leaving the block closes the stream, and with it the connection
    return got


def main():
    client = anthropic.Anthropic(base_url=sys.argv[1], api_key="test-key-of-nobody-1234")
    for line in sys.stdin:
        started = time.monotonic()
        try:
            result = send(client, json.loads(line))
        except anthropic.APIStatusError as e:
            result = {"error": type(e).__name__, "status": e.status_code, "body": e.body, "headers": dict(e.response.headers)}
        except Exception as e:  # whatever the HTTP library raises
            result = {"error": type(e).__name__, "message": str(e)}
        result["seconds"] = time.monotonic() - started
        print(json.dumps(result), flush=True)


main()
