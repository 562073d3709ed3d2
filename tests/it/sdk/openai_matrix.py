"""A session with the official OpenAI SDK against a model of each provider dialect; prints `all good` at the end."""

import json

import openai

client = openai.OpenAI(max_retries=0, timeout=20)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Tells the {name}",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    for name in ("weather", "clock")
]
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def ask(text):
    return [{"role": "user", "content": text}]


for model in ("gpt", "claude", "gem"):
    # chat
    whole = client.chat.completions.create(model=model, messages=ask("hello"), temperature=0.2)
    assert whole.choices[0].message.content == "You said: hello", whole
    assert whole.choices[0].finish_reason == "stop" and whole.object == "chat.completion", whole
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens) == (10, 3, 13), whole

    # stream, with the SDK's own accumulation
    with client.chat.completions.stream(
        model=model, messages=ask("hello"), stream_options={"include_usage": True}
    ) as stream:
        pieces = [e.delta for e in stream if e.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(pieces) == "You said: hello" and len(pieces) > 1, pieces
    assert final.choices[0].message.content == "You said: hello", final
    assert final.usage and final.usage.completion_tokens == 3, final

    # parallel tools, whole and streamed
    called = client.chat.completions.create(model=model, messages=ask("use tools"), tools=TOOLS)
    calls = called.choices[0].message.tool_calls
    assert called.choices[0].finish_reason == "tool_calls", called
    assert [(c.function.name, json.loads(c.function.arguments)) for c in calls] == [
        ("weather", {"city": "Oslo"}),
        ("clock", {}),
    ], calls
    with client.chat.completions.stream(model=model, messages=ask("use tools"), tools=TOOLS) as stream:
        fragments = [
            call.function.arguments
            for event in stream
            if event.type == "chunk"
            for choice in event.chunk.choices
            for call in choice.delta.tool_calls or []
            if call.function and call.function.arguments
        ]
        final = stream.get_final_completion()
    streamed = final.choices[0].message.tool_calls
    # Gemini sends the arguments of a call whole.
    assert len(fragments) >= (2 if model == "gem" else 3), fragments
    assert [(c.id, c.function.name, json.loads(c.function.arguments)) for c in streamed] == [
        ("call_1", "weather", {"city": "Oslo"}),
        ("call_2", "clock", {}),
    ], streamed

    # the results go back
    history = ask("use tools") + [called.choices[0].message.model_dump(exclude_none=True)]
    history += [{"role": "tool", "tool_call_id": c.id, "content": f"result of {c.function.name}"} for c in calls]
    answer = client.chat.completions.create(model=model, messages=history, tools=TOOLS)
    assert answer.choices[0].message.content == "2 results", answer

    # vision
    seen = client.chat.completions.create(
        model=model,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": PIXEL}},
                ],
            }
        ],
    )
    assert seen.choices[0].message.content == "1 image", seen

    # JSON by schema
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    formed = client.chat.completions.create(
        model=model,
        messages=ask("name a city"),
        response_format={"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": schema}},
    )
    assert json.loads(formed.choices[0].message.content) == {"name": "Oslo"}, formed

    # errors are the SDK's own exceptions
    for text, kind in (
        ("fail 400", openai.BadRequestError),
        ("fail 429", openai.RateLimitError),
        ("fail 500", openai.InternalServerError),
    ):
        try:
            client.chat.completions.create(model=model, messages=ask(text))
            raise SystemExit(f"{text} was no error")
        except kind as error:
            assert "scripted failure" in error.message, error
    try:
        for _ in client.chat.completions.create(model=model, messages=ask("cut"), stream=True):
            pass
        raise SystemExit("a cut stream looked complete")
    except openai.APIError as error:
        assert "broke" in str(error), error

    # a caller that stops listening
    stream = client.chat.completions.create(model=model, messages=ask("hello"), stream=True)
    next(iter(stream))
    stream.close()

print("all good")
