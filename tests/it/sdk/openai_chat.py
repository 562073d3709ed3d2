"""The official OpenAI SDK for Python, chat completions."""

import json

import openai
from session import BASE, KEY, SPEC, STOP, many, play, raises, said, same, say

client = openai.OpenAI(base_url=f"{BASE}/v1", api_key=KEY, max_retries=0, timeout=20)
chats = client.chat.completions
TOOLS = [
    {
        "type": "function",
        "function": {"name": t["name"], "description": t["description"], "parameters": t["schema"]},
    }
    for t in SPEC["tools"]
]


def ask(scenario):
    return [{"role": "user", "content": say(scenario)}]


def talk(model, scenario):
    history = [
        {"role": "system", "content": SPEC["system"]},
        {"role": "user", "content": 'Remember 17 & "ä".'},
        {"role": "assistant", "content": "Noted: 17."},
        *ask(scenario),
    ]
    out = {"model": model, "messages": history, "temperature": 0.5, "max_completion_tokens": 300}
    # The Responses API has no stop texts.
    return out if model == "responses" else out | {"stop": STOP}


def check(model, whole):
    same("text", whole.choices[0].message.content, said("says", model))
    same("finish", whole.choices[0].finish_reason, "stop")
    u = whole.usage
    total, cached, out = SPEC["usage"]
    same("usage", (u.prompt_tokens, u.completion_tokens, u.total_tokens), (total, out, total + out))
    same("cached", u.prompt_tokens_details.cached_tokens, cached)


def chat(model):
    whole = chats.create(**talk(model, "chat"))
    same("object", whole.object, "chat.completion")
    check(model, whole)


def stream(model):
    with chats.stream(**talk(model, "stream"), stream_options={"include_usage": True}) as events:
        pieces = [e.delta for e in events if e.type == "content.delta"]
        final = events.get_final_completion()
    many("text", pieces, 4)
    same("pieces", "".join(pieces), said("says", model))
    check(model, final)


def called(message):
    same("calls", [[c.function.name, json.loads(c.function.arguments)] for c in message.tool_calls], SPEC["calls"])
    same("text", message.content, "Let me look. ")
    if len({c.id for c in message.tool_calls}) != 2:
        raise AssertionError(f"ids: {message.tool_calls}")


def plain(message):
    """A message as it was received: the SDK's stream helper adds members that the API does not take."""
    message = message.model_dump(exclude_none=True)
    for call in message["tool_calls"]:
        call.pop("index", None)
    return message


def history(scenario, message):
    results = [
        {"role": "tool", "tool_call_id": c.id, "content": r} for c, r in zip(message.tool_calls, SPEC["results"])
    ]
    return [*ask(scenario), plain(message), *results]


def tools(model):
    whole = chats.create(model=model, messages=ask("tools"), tools=TOOLS, tool_choice="required")
    same("finish", whole.choices[0].finish_reason, "tool_calls")
    message = whole.choices[0].message
    called(message)
    answer = chats.create(model=model, messages=history("tools", message), tools=TOOLS)
    same("answer", answer.choices[0].message.content, said("reads", model))


def tools_stream(model):
    with chats.stream(model=model, messages=ask("tools_stream"), tools=TOOLS, tool_choice="required") as events:
        deltas = [e.chunk.choices[0].delta for e in events if e.type == "chunk" and e.chunk.choices]
        final = events.get_final_completion()
    fragments = [c.function.arguments for d in deltas for c in d.tool_calls or [] if c.function.arguments]
    # Gemini sends the arguments of a call whole.
    many("arguments", fragments, 2 if model == "gemini" else 10)
    same("finish", final.choices[0].finish_reason, "tool_calls")
    message = final.choices[0].message
    called(message)
    with chats.stream(model=model, messages=history("tools_stream", message), tools=TOOLS) as events:
        answer = events.get_final_completion()
    same("answer", answer.choices[0].message.content, said("reads", model))


def vision(model):
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{SPEC['image']}"}}
    parts = [{"type": "text", "text": say("vision")}, image]
    whole = chats.create(model=model, messages=[{"role": "user", "content": parts}])
    same("text", whole.choices[0].message.content, said("sees", model))


def schema(model):
    form = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": SPEC["schema"]}}
    whole = chats.create(model=model, messages=ask("schema"), response_format=form)
    same("text", json.loads(whole.choices[0].message.content), json.loads(said("formed", model)))


def errors(model):
    no = said("refuses", model)
    for status, kind in ((400, openai.BadRequestError), (429, openai.RateLimitError), (500, openai.InternalServerError)):
        error = raises(kind, no, lambda: chats.create(model=model, messages=ask(f"fail_{status}")))
        same("status", error.status_code, status)
    error = raises(openai.InternalServerError, no, lambda: chats.create(model=model, messages=ask("fail_529")))
    same("overload", error.status_code, 503)
    # What a provider says about the gateway's own credentials is not told.
    error = raises(openai.InternalServerError, "", lambda: chats.create(model=f"{model}-barred", messages=ask("fail_401")))
    same("secret", no in str(error), False)
    raises(openai.NotFoundError, "no-such-model", lambda: chats.create(model="no-such-model", messages=ask("chat")))


def broken(model):
    for scenario, words in (("cut", ""), ("break", said("refuses", model))):
        texts = []

        def read(scenario=scenario, texts=texts):
            for chunk in chats.create(model=model, messages=ask(scenario), stream=True):
                texts.extend(c.delta.content or "" for c in chunk.choices)

        raises(openai.APIError, words, read)
        same("text before", said("says", model).startswith("".join(texts)) and len("".join(texts)) > 5, True)


def cancel(model):
    with chats.create(model=model, messages=ask("cancel"), stream=True) as events:
        for chunk in events:
            if chunk.choices and chunk.choices[0].delta.content:
                break


play(
    chat=chat, stream=stream, tools=tools, tools_stream=tools_stream, vision=vision, schema=schema,
    errors=errors, broken=broken, cancel=cancel,
)  # fmt: skip
