"""A session with the official OpenAI SDK's Responses and legacy completions against a model of each provider dialect;
prints `all good` at the end."""

import json

import openai

client = openai.OpenAI(max_retries=0, timeout=20)
TOOLS = [
    {
        "type": "function",
        "name": name,
        "description": f"Tells the {name}",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": False,
    }
    for name in ("weather", "clock")
]
PIXEL = "data:image/png;base64,iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": False}


def calls_of(response):
    return [item for item in response.output if item.type == "function_call"]


for model in ("gpt", "claude", "gem"):
    # whole
    whole = client.responses.create(model=model, input="hello", instructions="Be brief.", temperature=0.2)
    assert whole.output_text == "You said: hello" and whole.status == "completed", whole
    assert whole.id.startswith("resp_") and whole.object == "response" and whole.error is None, whole
    assert (whole.usage.input_tokens, whole.usage.output_tokens, whole.usage.total_tokens) == (10, 3, 13), whole

    # stream, with the SDK's own accumulation
    with client.responses.stream(model=model, input=[{"role": "user", "content": "hello"}]) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert final.output_text == "You said: hello" and final.usage.output_tokens == 3, final
    pieces = [e.delta for e in events if e.type == "response.output_text.delta"]
    assert "".join(pieces) == "You said: hello" and len(pieces) > 1, pieces
    kinds = [e.type for e in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ], kinds
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ], kinds
    assert [e.sequence_number for e in events] == list(range(len(events))), events

    # parallel tools, whole and streamed
    called = client.responses.create(model=model, input="use tools", tools=TOOLS)
    assert [(c.name, json.loads(c.arguments)) for c in calls_of(called)] == [
        ("weather", {"city": "Oslo"}),
        ("clock", {}),
    ], called
    with client.responses.stream(model=model, input="use tools", tools=TOOLS) as stream:
        fragments = [e.delta for e in stream if e.type == "response.function_call_arguments.delta"]
        streamed = stream.get_final_response()
    # Gemini sends the arguments of a call whole.
    assert len(fragments) >= (2 if model == "gem" else 3), fragments
    assert [(c.call_id, c.name, json.loads(c.arguments)) for c in calls_of(streamed)] == [
        ("call_1", "weather", {"city": "Oslo"}),
        ("call_2", "clock", {}),
    ], streamed

    # the results go back, with whatever else was said and thought
    history = [{"role": "user", "content": "use tools"}]
    history += [item.model_dump(exclude_none=True) for item in streamed.output]
    history += [
        {"type": "function_call_output", "call_id": c.call_id, "output": f"result of {c.name}"}
        for c in calls_of(streamed)
    ]
    answer = client.responses.create(model=model, input=history, tools=TOOLS)
    assert answer.output_text == "2 results", answer

    # vision
    look = [{"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": PIXEL, "detail": "auto"}]
    seen = client.responses.create(model=model, input=[{"role": "user", "content": look}])
    assert seen.output_text == "1 image", seen

    # JSON by schema
    form = {"type": "json_schema", "name": "city", "strict": True, "schema": SCHEMA}
    formed = client.responses.create(model=model, input="name a city", text={"format": form})
    assert json.loads(formed.output_text) == {"name": "Oslo"}, formed

    # errors are the SDK's own exceptions, also in the middle of a stream
    for text, kind in (
        ("fail 400", openai.BadRequestError),
        ("fail 429", openai.RateLimitError),
        ("fail 500", openai.InternalServerError),
    ):
        try:
            client.responses.create(model=model, input=text)
            raise SystemExit(f"{text} was no error")
        except kind as error:
            assert "scripted failure" in error.message, error
    try:
        for _ in client.responses.create(model=model, input="cut", stream=True):
            pass
        raise SystemExit("a cut stream looked complete")
    except openai.APIError as error:
        assert "broke" in str(error), error
    try:
        client.responses.create(model=model, input="hello", previous_response_id="resp_1")
        raise SystemExit("a response that nobody keeps was continued")
    except openai.BadRequestError as error:
        assert error.param == "previous_response_id", error

    # a caller that stops listening
    stream = client.responses.create(model=model, input="hello", stream=True)
    next(iter(stream))
    stream.close()

# legacy completions, where a provider has no such thing
for model in ("claude", "gem"):
    told = client.completions.create(model=model, prompt="hello", max_tokens=9)
    assert told.object == "text_completion" and told.choices[0].text == "You said: hello", told
    assert told.choices[0].finish_reason == "stop" and told.usage.total_tokens == 13, told
    chunks = list(client.completions.create(model=model, prompt="hello", stream=True))
    assert "".join(c.choices[0].text for c in chunks) == "You said: hello" and len(chunks) > 2, chunks
    assert chunks[-1].choices[0].finish_reason == "stop", chunks

print("all good")
