"""A session with the official OpenAI SDK; OPENAI_BASE_URL points at the gateway. Prints `all good` at the end."""

import openai

client = openai.OpenAI(max_retries=0, timeout=20)
question = [{"role": "user", "content": "How do I return an item?"}]

# chat
whole = client.chat.completions.create(model="auto", messages=question)
text = whole.choices[0].message.content
assert "30 days" in text, text
assert whole.choices[0].finish_reason == "stop", whole
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens, whole.usage

# chat again: the gateway's headers are there for those who look
raw = client.chat.completions.with_raw_response.create(model="auto", messages=question)
assert raw.headers["x-sluicegate-source"] in ("provider", "ai_exact"), dict(raw.headers)
assert raw.parse().choices[0].message.content == text

# streaming chat, from the provider and from the cache
for content in ("How do I return an item?", "I forgot my password"):
    pieces, usage = [], None
    stream = client.chat.completions.create(
        model="small",
        messages=[{"role": "user", "content": content}],
        stream=True,
        stream_options={"include_usage": True},
    )
    for event in stream:
        usage = event.usage or usage
        pieces += [choice.delta.content or "" for choice in event.choices]
    assert "".join(pieces).strip(), pieces
    assert usage and usage.completion_tokens > 0, usage

# embeddings: the SDK asks for base64 and unpacks it
vectors = client.embeddings.create(model="embed", input=["tea", "a pot of tea"])
assert [len(item.embedding) for item in vectors.data] == [384, 384], vectors
assert abs(sum(x * x for x in vectors.data[0].embedding) - 1) < 1e-3

# models
names = [model.id for model in client.models.list()]
assert "small" in names, names

# errors are the SDK's own exceptions
try:
    client.chat.completions.create(model="no-such-model", messages=question)
    raise SystemExit("an unknown model was accepted")
except openai.NotFoundError as error:
    assert error.code == "model_not_found", error.body
try:
    client.chat.completions.create(model="auto", messages="not a list")  # type: ignore[arg-type]
    raise SystemExit("a bad call was accepted")
except openai.BadRequestError:
    pass

print("all good")
