"""The official Anthropic SDK for Python."""

import json

import anthropic
from session import BASE, KEY, SPEC, STOP, many, play, raises, said, same, say

client = anthropic.Anthropic(base_url=BASE, api_key=KEY, max_retries=0, timeout=20)
messages = client.messages
TOOLS = [{"name": t["name"], "description": t["description"], "input_schema": t["schema"]} for t in SPEC["tools"]]


def ask(scenario):
    return [{"role": "user", "content": say(scenario)}]


def call(model, scenario, **more):
    return {"model": model, "max_tokens": 300, "messages": ask(scenario)} | more


def talk(model, scenario):
    history = [
        {"role": "user", "content": 'Remember 17 & "ä".'},
        {"role": "assistant", "content": "Noted: 17."},
        *ask(scenario),
    ]
    # This SDK has no argument for the temperature any more.
    more = {"extra_body": {"temperature": 0.5}}
    out = call(model, scenario, messages=history, system=SPEC["system"], **more)
    # The Responses API has no stop texts.
    return out if model == "responses" else out | {"stop_sequences": STOP}


def check(model, whole):
    same("text", [b.text for b in whole.content], [said("says", model)])
    same("kind", (whole.type, whole.role, whole.stop_reason), ("message", "assistant", "end_turn"))
    total, cached, out = SPEC["usage"]
    u = whole.usage
    same("usage", (u.input_tokens, u.cache_read_input_tokens, u.output_tokens), (total - cached, cached, out))


def chat(model):
    check(model, messages.create(**talk(model, "chat")))


def stream(model):
    with messages.stream(**talk(model, "stream")) as events:
        pieces = list(events.text_stream)
        final = events.get_final_message()
    many("text", pieces, 4)
    same("pieces", "".join(pieces), said("says", model))
    check(model, final)


def history(scenario, whole):
    uses = [b for b in whole.content if b.type == "tool_use"]
    same("calls", [[b.name, b.input] for b in uses], SPEC["calls"])
    same("text", [b.text for b in whole.content if b.type == "text"], ["Let me look. "])
    same("stop", whole.stop_reason, "tool_use")
    if len({b.id for b in uses}) != 2:
        raise AssertionError(f"ids: {uses}")
    results = [{"type": "tool_result", "tool_use_id": b.id, "content": r} for b, r in zip(uses, SPEC["results"])]
    return [*ask(scenario), {"role": "assistant", "content": whole.content}, {"role": "user", "content": results}]


def tools(model):
    whole = messages.create(**call(model, "tools"), tools=TOOLS, tool_choice={"type": "any"})
    answer = messages.create(**call(model, "", messages=history("tools", whole)), tools=TOOLS)
    same("answer", answer.content[0].text, said("reads", model))


def tools_stream(model):
    with messages.stream(**call(model, "tools_stream"), tools=TOOLS, tool_choice={"type": "any"}) as events:
        fragments = [e.partial_json for e in events if e.type == "input_json" and e.partial_json]
        final = events.get_final_message()
    # Gemini sends the arguments of a call whole.
    many("arguments", fragments, 2 if model == "gemini" else 10)
    with messages.stream(**call(model, "", messages=history("tools_stream", final)), tools=TOOLS) as events:
        answer = events.get_final_message()
    same("answer", answer.content[0].text, said("reads", model))


def vision(model):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": SPEC["image"]}}
    parts = [{"type": "text", "text": say("vision")}, image]
    whole = messages.create(**call(model, "", messages=[{"role": "user", "content": parts}]))
    same("text", whole.content[0].text, said("sees", model))


def schema(model):
    form = {"format": {"type": "json_schema", "schema": SPEC["schema"]}}
    whole = messages.create(**call(model, "schema"), output_config=form)
    same("text", json.loads(whole.content[0].text), json.loads(said("formed", model)))


def errors(model):
    no = said("refuses", model)
    for status, kind in (
        (400, anthropic.BadRequestError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.InternalServerError),
    ):
        error = raises(kind, no, lambda: messages.create(**call(model, f"fail_{status}")))
        same("status", error.status_code in ((503, 529) if status == 529 else (status,)), True)
        same("type", error.body["type"], "error")
    # What a provider says about the gateway's own credentials is not told.
    error = raises(anthropic.InternalServerError, "", lambda: messages.create(**call(f"{model}-barred", "fail_401")))
    same("secret", no in str(error), False)
    raises(anthropic.NotFoundError, "no-such-model", lambda: messages.create(**call("no-such-model", "chat")))


def broken(model):
    for scenario, words in (("cut", ""), ("break", said("refuses", model))):
        texts = []

        def read(scenario=scenario, texts=texts):
            with messages.stream(**call(model, scenario)) as events:
                texts.extend(events.text_stream)

        error = raises(anthropic.APIStatusError, "", read)
        same("words", words in error.body["error"]["message"], True)
        same("text before", said("says", model).startswith("".join(texts)) and len("".join(texts)) > 5, True)


def cancel(model):
    with messages.stream(**call(model, "cancel")) as events:
        next(iter(events.text_stream))


play(
    chat=chat, stream=stream, tools=tools, tools_stream=tools_stream, vision=vision, schema=schema,
    errors=errors, broken=broken, cancel=cancel,
)  # fmt: skip
