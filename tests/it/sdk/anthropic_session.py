"""A session with the official Anthropic SDK against a model of each provider dialect; prints `all good` at the end."""

import json

import anthropic

client = anthropic.Anthropic(max_retries=0, timeout=20)
TOOLS = [
    {
        "name": name,
        "description": f"Tells the {name}",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
    for name in ("weather", "clock")
]


def ask(text):
    return [{"role": "user", "content": text}]


for model in ("claude", "gpt", "gem"):
    # chat
    whole = client.messages.create(model=model, max_tokens=100, messages=ask("hello"), system="Be brief.")
    assert whole.content[0].text == "You said: hello", whole
    assert (whole.type, whole.role, whole.stop_reason) == ("message", "assistant", "end_turn"), whole
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (10, 3), whole

    # stream, with the SDK's own accumulation
    with client.messages.stream(model=model, max_tokens=100, messages=ask("hello")) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(pieces) == "You said: hello" and len(pieces) > 1, pieces
    assert final.content[0].text == "You said: hello" and final.stop_reason == "end_turn", final
    assert (final.usage.input_tokens, final.usage.output_tokens) == (10, 3), final

    # parallel tools, whole and streamed
    called = client.messages.create(model=model, max_tokens=100, messages=ask("use tools"), tools=TOOLS)
    uses = [b for b in called.content if b.type == "tool_use"]
    want = [("call_1", "weather", {"city": "Oslo"}), ("call_2", "clock", {})]
    assert called.stop_reason == "tool_use", called
    assert [(b.id, b.name, b.input) for b in uses] == want, called
    with client.messages.stream(model=model, max_tokens=100, messages=ask("use tools"), tools=TOOLS) as stream:
        fragments = [e.partial_json for e in stream if e.type == "input_json" and e.partial_json]
        final = stream.get_final_message()
    # Gemini sends the arguments of a call whole.
    assert len(fragments) >= (2 if model == "gem" else 3), fragments
    assert [(b.id, b.name, b.input) for b in final.content if b.type == "tool_use"] == want, final

    # the results go back
    history = ask("use tools") + [{"role": "assistant", "content": called.content}]
    results = [{"type": "tool_result", "tool_use_id": b.id, "content": f"result of {b.name}"} for b in uses]
    history.append({"role": "user", "content": results})
    answer = client.messages.create(model=model, max_tokens=100, messages=history, tools=TOOLS)
    assert answer.content[0].text == "2 results", answer

    # vision
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    seen = client.messages.create(
        model=model,
        max_tokens=100,
        messages=[{"role": "user", "content": [{"type": "text", "text": "look"}, image]}],
    )
    assert seen.content[0].text == "1 image", seen

    # JSON by schema
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    formed = client.messages.create(
        model=model,
        max_tokens=100,
        messages=ask("name a city"),
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert json.loads(formed.content[0].text) == {"name": "Oslo"}, formed

    # counting
    counted = client.messages.count_tokens(model=model, messages=ask("hello"))
    assert counted.input_tokens > 0, counted

    # errors are the SDK's own exceptions
    for text, kind in (
        ("fail 400", anthropic.BadRequestError),
        ("fail 429", anthropic.RateLimitError),
        ("fail 500", anthropic.InternalServerError),
    ):
        try:
            client.messages.create(model=model, max_tokens=100, messages=ask(text))
            raise SystemExit(f"{text} was no error")
        except kind as error:
            assert "scripted failure" in error.message, error
    try:
        with client.messages.stream(model=model, max_tokens=100, messages=ask("cut")) as stream:
            stream.get_final_message()
        raise SystemExit("a cut stream looked complete")
    except anthropic.APIError as error:
        assert "broke" in str(error), error

    # a caller that stops listening
    with client.messages.stream(model=model, max_tokens=100, messages=ask("hello")) as stream:
        next(iter(stream))

names = [model.id for model in client.models.list()]
assert "claude" in names and "gpt" in names, names
try:
    client.messages.create(model="no-such-model", max_tokens=10, messages=ask("hello"))
    raise SystemExit("an unknown model was accepted")
except anthropic.NotFoundError:
    pass

print("all good")
