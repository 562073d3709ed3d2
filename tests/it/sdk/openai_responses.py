"""The official OpenAI SDK for Python, Responses."""

import json

import openai
from session import BASE, KEY, SPEC, many, play, raises, said, same, say

client = openai.OpenAI(base_url=f"{BASE}/v1", api_key=KEY, max_retries=0, timeout=20)
responses = client.responses
TOOLS = [
    {
        "type": "function",
        "name": t["name"],
        "description": t["description"],
        "parameters": t["schema"],
        "strict": False,
    }
    for t in SPEC["tools"]
]


def ask(scenario):
    return [{"role": "user", "content": say(scenario)}]


def talk(model, scenario):
    history = [
        {"role": "user", "content": 'Remember 17 & "ä".'},
        {"role": "assistant", "content": "Noted: 17."},
        *ask(scenario),
    ]
    more = {"temperature": 0.5, "max_output_tokens": 300, "store": False}
    return {"model": model, "instructions": SPEC["system"], "input": history} | more


def check(model, whole):
    same("text", whole.output_text, said("says", model))
    same("status", whole.status, "completed")
    u = whole.usage
    total, cached, out = SPEC["usage"]
    same("usage", (u.input_tokens, u.output_tokens, u.total_tokens), (total, out, total + out))
    same("cached", u.input_tokens_details.cached_tokens, cached)


def chat(model):
    whole = responses.create(**talk(model, "chat"))
    same("object", whole.object, "response")
    check(model, whole)


def stream(model):
    with responses.stream(**talk(model, "stream")) as events:
        seen = list(events)
        final = events.get_final_response()
    same("numbers", [e.sequence_number for e in seen], list(range(len(seen))))
    same("first and last", (seen[0].type, seen[-1].type), ("response.created", "response.completed"))
    pieces = [e.delta for e in seen if e.type == "response.output_text.delta"]
    many("text", pieces, 4)
    same("pieces", "".join(pieces), said("says", model))
    check(model, final)


def calls_of(whole):
    calls = [item for item in whole.output if item.type == "function_call"]
    same("calls", [[c.name, json.loads(c.arguments)] for c in calls], SPEC["calls"])
    same("text", whole.output_text, "Let me look. ")
    if len({c.call_id for c in calls}) != 2:
        raise AssertionError(f"ids: {calls}")
    return calls


def history(scenario, whole):
    results = [
        {"type": "function_call_output", "call_id": c.call_id, "output": r}
        for c, r in zip(calls_of(whole), SPEC["results"])
    ]
    return [*ask(scenario), *whole.output, *results]


def tools(model):
    whole = responses.create(model=model, input=ask("tools"), tools=TOOLS, tool_choice="required", store=False)
    answer = responses.create(model=model, input=history("tools", whole), tools=TOOLS, store=False)
    same("answer", answer.output_text, said("reads", model))


def plain(item):
    """An item as it was received: the SDK's stream helper adds a member that the API does not take."""
    item = item.model_dump(exclude_unset=True)
    item.pop("parsed_arguments", None)
    for part in item.get("content") or []:
        part.pop("parsed", None)
    return item


def tools_stream(model):
    asked = ask("tools_stream")
    with responses.stream(model=model, input=asked, tools=TOOLS, tool_choice="required", store=False) as events:
        seen = list(events)
        final = events.get_final_response()
    fragments = [e.delta for e in seen if e.type == "response.function_call_arguments.delta"]
    # Gemini sends the arguments of a call whole.
    many("arguments", fragments, 2 if model == "gemini" else 10)
    results = history("tools_stream", final)[-2:]
    items = [*asked, *(plain(item) for item in final.output), *results]
    with responses.stream(model=model, input=items, tools=TOOLS, store=False) as events:
        for _ in events:
            pass
        answer = events.get_final_response()
    same("answer", answer.output_text, said("reads", model))


def vision(model):
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{SPEC['image']}", "detail": "auto"}
    parts = [{"type": "input_text", "text": say("vision")}, image]
    whole = responses.create(model=model, input=[{"role": "user", "content": parts}])
    same("text", whole.output_text, said("sees", model))


def schema(model):
    form = {"type": "json_schema", "name": "city", "strict": True, "schema": SPEC["schema"]}
    whole = responses.create(model=model, input=ask("schema"), text={"format": form})
    same("text", json.loads(whole.output_text), json.loads(said("formed", model)))


def errors(model):
    no = said("refuses", model)
    for status, kind in ((400, openai.BadRequestError), (429, openai.RateLimitError), (500, openai.InternalServerError)):
        error = raises(kind, no, lambda: responses.create(model=model, input=say(f"fail_{status}")))
        same("status", error.status_code, status)
    error = raises(openai.InternalServerError, no, lambda: responses.create(model=model, input=say("fail_529")))
    same("overload", error.status_code, 503)
    # What a provider says about the gateway's own credentials is not told.
    error = raises(openai.InternalServerError, "", lambda: responses.create(model=f"{model}-barred", input=say("fail_401")))
    same("secret", no in str(error), False)
    raises(openai.NotFoundError, "no-such-model", lambda: responses.create(model="no-such-model", input=say("chat")))


def broken(model):
    for scenario, words in (("cut", ""), ("break", said("refuses", model))):
        texts, ends = [], []
        try:
            for event in responses.create(model=model, input=say(scenario), stream=True):
                if event.type == "response.output_text.delta":
                    texts.append(event.delta)
                if event.type == "error":
                    ends.append(event.message)
                if event.type == "response.failed":
                    ends.append(event.response.error.message)
                same("a made-up end", event.type == "response.completed", False)
        except openai.APIError as error:
            # An event with a member `error` is raised by this SDK. The others are handed on, and then the body ends
            # without the mark of its end.
            ends.append(error.message)
        same("text before", said("says", model).startswith("".join(texts)) and len("".join(texts)) > 5, True)
        many("errors", ends, 1)
        same("words", words in ends[0], True)


def cancel(model):
    with responses.create(model=model, input=say("cancel"), stream=True) as events:
        for event in events:
            if event.type == "response.output_text.delta":
                break


play(
    chat=chat, stream=stream, tools=tools, tools_stream=tools_stream, vision=vision, schema=schema,
    errors=errors, broken=broken, cancel=cancel,
)  # fmt: skip
