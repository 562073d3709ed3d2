"""The official Google Gen AI SDK for Python."""

import base64
import json

from google import genai
from google.genai import errors as faults
from google.genai import types
from session import BASE, KEY, SPEC, STOP, many, play, raises, said, same, say

client = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=BASE, timeout=20_000))
TOOLS = [
    types.Tool(
        function_declarations=[
            types.FunctionDeclaration(
                name=t["name"], description=t["description"], parameters_json_schema=t["schema"]
            )
            for t in SPEC["tools"]
        ]
    )
]
BY_HAND = types.AutomaticFunctionCallingConfig(disable=True)
MUST = types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode="ANY"))


def turn(role, text):
    return types.Content(role=role, parts=[types.Part(text=text)])


def talk(model, scenario):
    history = [turn("user", 'Remember 17 & "ä".'), turn("model", "Noted: 17."), turn("user", say(scenario))]
    config = types.GenerateContentConfig(
        system_instruction=SPEC["system"],
        temperature=0.5,
        max_output_tokens=300,
        # The Responses API has no stop texts.
        stop_sequences=None if model == "responses" else STOP,
    )
    return {"model": model, "contents": history, "config": config}


def ask(model, scenario, **config):
    return {"model": model, "contents": say(scenario), "config": types.GenerateContentConfig(**config)}


def create(**call):
    return client.models.generate_content(**call)


def streamed(**call):
    return client.models.generate_content_stream(**call)


def check(usage):
    total, cached, out = SPEC["usage"]
    got = (usage.prompt_token_count, usage.candidates_token_count, usage.total_token_count)
    same("usage", got, (total, out, total + out))
    same("cached", usage.cached_content_token_count, cached)


def chat(model):
    whole = create(**talk(model, "chat"))
    same("text", whole.text, said("says", model))
    same("finish", whole.candidates[0].finish_reason, types.FinishReason.STOP)
    check(whole.usage_metadata)


def stream(model):
    chunks = list(streamed(**talk(model, "stream")))
    pieces = [c.text for c in chunks if c.text]
    many("text", pieces, 4)
    same("pieces", "".join(pieces), said("says", model))
    same("finish", chunks[-1].candidates[0].finish_reason, types.FinishReason.STOP)
    check(chunks[-1].usage_metadata)


def history(scenario, parts):
    calls = [p.function_call for p in parts if p.function_call]
    same("calls", [[c.name, c.args] for c in calls], SPEC["calls"])
    same("text", "".join(p.text for p in parts if p.text), "Let me look. ")
    results = [
        types.Part(function_response=types.FunctionResponse(id=c.id, name=c.name, response={"result": r}))
        for c, r in zip(calls, SPEC["results"])
    ]
    return [
        turn("user", say(scenario)),
        types.Content(role="model", parts=parts),
        types.Content(role="user", parts=results),
    ]


def tools(model):
    config = {"tools": TOOLS, "automatic_function_calling": BY_HAND}
    whole = create(**ask(model, "tools", tool_config=MUST, **config))
    contents = history("tools", whole.candidates[0].content.parts)
    answer = create(model=model, contents=contents, config=types.GenerateContentConfig(**config))
    same("answer", answer.text, said("reads", model))


def tools_stream(model):
    config = {"tools": TOOLS, "automatic_function_calling": BY_HAND}
    chunks = list(streamed(**ask(model, "tools_stream", tool_config=MUST, **config)))
    parts = [p for c in chunks if c.candidates and c.candidates[0].content for p in c.candidates[0].content.parts or []]
    contents = history("tools_stream", parts)
    answer = list(streamed(model=model, contents=contents, config=types.GenerateContentConfig(**config)))
    same("answer", "".join(c.text for c in answer if c.text), said("reads", model))


def vision(model):
    image = types.Part.from_bytes(data=base64.b64decode(SPEC["image"]), mime_type="image/png")
    whole = create(model=model, contents=[types.Part(text=say("vision")), image])
    same("text", whole.text, said("sees", model))


def schema(model):
    form = {"response_mime_type": "application/json", "response_json_schema": SPEC["schema"]}
    whole = create(**ask(model, "schema", **form))
    same("text", json.loads(whole.text), json.loads(said("formed", model)))


def errors(model):
    no = said("refuses", model)
    for status, kind in ((400, faults.ClientError), (429, faults.ClientError), (500, faults.ServerError)):
        error = raises(kind, no, lambda: create(**ask(model, f"fail_{status}")))
        same("status", error.code, status)
    error = raises(faults.ServerError, no, lambda: create(**ask(model, "fail_529")))
    same("overload", error.code, 503)
    # What a provider says about the gateway's own credentials is not told.
    error = raises(faults.ServerError, "", lambda: create(**ask(f"{model}-barred", "fail_401")))
    same("secret", no in str(error), False)
    error = raises(faults.ClientError, "no-such-model", lambda: create(**ask("no-such-model", "chat")))
    same("unknown model", error.code, 404)


def broken(model):
    for scenario, words in (("cut", ""), ("break", said("refuses", model))):
        texts = []

        def read(scenario=scenario, texts=texts):
            for chunk in streamed(**ask(model, scenario)):
                texts.append(chunk.text or "")

        raises(faults.APIError, words, read)
        same("text before", said("says", model).startswith("".join(texts)) and len("".join(texts)) > 5, True)


def cancel(model):
    chunks = streamed(**ask(model, "cancel"))
    next(chunks)
    chunks.close()


play(
    chat=chat, stream=stream, tools=tools, tools_stream=tools_stream, vision=vision, schema=schema,
    errors=errors, broken=broken, cancel=cancel,
)  # fmt: skip
