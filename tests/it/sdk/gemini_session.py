"""A session with Google's official SDK; argv: the gateway's URL, then the models to ask. Prints `all good` at the end.

Each model stands for a provider of one dialect, played by a scripted server that calls `weather` twice when the prompt
says TOOLS, answers with JSON of the schema when it says JSON, and with status 429 when it says FAIL429."""

import asyncio
import sys

from google import genai
from google.genai import errors, types
from pydantic import BaseModel

base, models = sys.argv[1], sys.argv[2:]
client = genai.Client(api_key="client-key", http_options={"base_url": base, "timeout": 20_000})
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cf"
    "c0f01f0005000201a2b3c9d80000000049454e44ae426082"
)


class Moon(BaseModel):
    km: int
    name: str | None


def weather(city: str) -> str:
    """The weather in a city."""
    return f"grey in {city}"


def session(model: str) -> None:
    # chat
    whole = client.models.generate_content(model=model, contents="hello")
    assert whole.text == "one two three", whole
    assert whole.candidates[0].finish_reason == types.FinishReason.STOP, whole
    assert whole.usage_metadata.prompt_token_count == 10, whole
    assert whole.usage_metadata.total_token_count == 15, whole

    # stream
    pieces = list(client.models.generate_content_stream(model=model, contents="hello stream"))
    assert "".join(p.text or "" for p in pieces) == "one two three", pieces
    assert len(pieces) > 2 and pieces[-1].candidates[0].finish_reason == types.FinishReason.STOP, pieces
    assert pieces[-1].usage_metadata.prompt_token_count == 10, pieces[-1]

    # a chat whose turns are streamed and kept
    chat = client.chats.create(model=model, config={"system_instruction": "Be brief."})
    for _ in range(2):
        assert "".join(p.text or "" for p in chat.send_message_stream("go on")) == "one two three"
    assert len(chat.get_history(curated=True)) >= 4, chat.get_history(curated=True)

    # parallel calls, called by the SDK itself and answered
    config = types.GenerateContentConfig(tools=[weather])
    called = client.models.generate_content(model=model, contents="TOOLS please", config=config)
    assert called.text == "one two three", called
    responses = called.automatic_function_calling_history[-1].parts
    assert [p.function_response.response for p in responses] == [
        {"result": "grey in Oslo"},
        {"result": "grey in Bergen"},
    ], responses

    # parallel calls in a stream, whole
    manual = types.GenerateContentConfig(
        tools=[weather], automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True)
    )
    calls = []
    for piece in client.models.generate_content_stream(model=model, contents="TOOLS streamed", config=manual):
        calls += piece.function_calls or []
    assert [(c.name, c.args["city"]) for c in calls] == [("weather", "Oslo"), ("weather", "Bergen")], calls

    # vision
    seen = client.models.generate_content(
        model=model, contents=[types.Part.from_bytes(data=PIXEL, mime_type="image/png"), "What is this?"]
    )
    assert seen.text == "It is a red square.", seen

    # JSON of a schema
    shaped = client.models.generate_content(
        model=model,
        contents="JSON please",
        config={"response_mime_type": "application/json", "response_schema": Moon},
    )
    assert shaped.parsed == Moon(km=384400, name="moon"), shaped

    # counts
    assert client.models.count_tokens(model=model, contents="hello").total_tokens > 0

    # errors
    try:
        client.models.generate_content(model=model, contents="FAIL429")
        raise SystemExit("a refused call was accepted")
    except errors.ClientError as error:
        assert (error.code, error.status) == (429, "RESOURCE_EXHAUSTED"), error

    # cancel
    async def leave() -> None:
        stream = await client.aio.models.generate_content_stream(model=model, contents="SLOW stream")
        async for piece in stream:
            assert piece.text or True
            break
        await stream.aclose()

    asyncio.run(leave())


for model in models:
    session(model)
names = [model.name for model in client.models.list()]
assert all(f"models/{model}" in names for model in models), names
assert client.models.get(model=models[0]).name == f"models/{models[0]}"
try:
    client.models.generate_content(model="no-such-model", contents="hello")
    raise SystemExit("an unknown model was accepted")
except errors.ClientError as error:
    assert (error.code, error.status) == (404, "NOT_FOUND"), error
print("all good")
