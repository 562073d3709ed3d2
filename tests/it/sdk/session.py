"""What the sessions in Python share: the script from the environment, one JSON line on stdout for each scenario."""

import json
import os
import sys
import traceback

SPEC = json.loads(os.environ["SPEC"])
MODELS = os.environ["MODELS"].split(",")
RUN = os.environ["RUN"]
BASE = os.environ["BASE_URL"]
KEY = os.environ["CLIENT_KEY"]
STOP = ["###", "Ende"]


def say(scenario):
    """The user's text, by which the scripted provider knows what to do."""
    return f"scenario:{scenario} run:{RUN} please"


def said(name, model):
    """What the scripted provider of this model says."""
    return SPEC[name].replace("{model}", model)


def same(what, got, want):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def many(what, pieces, least):
    if len(pieces) < least:
        raise AssertionError(f"{what}: {len(pieces)} pieces, want {least}: {pieces!r}")


def raises(kinds, words, call):
    """Checks that a call fails with one of these classes and says these words."""
    try:
        got = call()
    except kinds as error:
        if words not in str(error.args) + str(getattr(error, "message", "")):
            raise AssertionError(f"{type(error).__name__} does not say {words!r}: {error}") from error
        return error
    raise AssertionError(f"no error but {got!r}")


def play(**scenarios):
    """Every scenario with every model."""
    for model in MODELS:
        for name, scenario in scenarios.items():
            line = {"model": model, "scenario": name, "error": None}
            try:
                scenario(model)
            except Exception as error:
                at = [f"{os.path.basename(f.filename)}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
                line["error"] = f"{type(error).__name__}: {error} [{' '.join(at[1:3])}]"
            print(json.dumps(line), flush=True)
    sys.stdout.flush()
