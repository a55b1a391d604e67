"""Conversations: prompts and responses joined to one text, and which part of it is which.

    User: <prompt>

    Assistant: <response>

    User: ...

That text is what a rater reads, while it learns and wherever it scores and filters afterwards.
`Document.turns` says where the responses are, and models learn to predict those alone: windows of
conversations have the feature `responses` (`data.responses`), by which losses count.
"""

from collections.abc import Callable, Mapping, Sequence

from dr_keras.data.corpora.base import Malformed
from dr_keras.errors import ConfigurationError
import gin

# (record, field) -> the value there, None where there is none.
Lookup = Callable[[dict, str], object]


@gin.configurable
def conversation(
    prompt_field: str | Sequence[str] = "prompt",
    response_field: str = "response",
    turns_field: str | None = None,
    role_field: str = "role",
    content_field: str = "content",
    answering_roles: Sequence[str] = ("assistant",),
    before_prompt: str = "\n\nUser: ",
    before_response: str = "\n\nAssistant: ",
) -> dict[str, object]:
    """How records hold conversations, and how those are written as text.

    Args:
      prompt_field: the field of the prompt, a text; or several, such as ['instruction', 'input'],
        of which those that are there and not empty are joined by a line break.
      response_field: the field of the response.
      turns_field: the field with a list of turns, an object each, in place of those two.
      role_field, content_field: of a turn, who speaks and what is said.
      answering_roles: whose turns are responses; those of others (users, systems, tools) are parts
        of a prompt.
      before_prompt, before_response: the marks that separate turns. White space before the first
        one is dropped. Tokenizers may read any white space as a blank, so a mark needs more.

    Returns:
      These settings, all of JSON, for `jsonl_corpus.conversation`.

    Raises:
      ConfigurationError: no field, role or mark where one is needed.
    """
    prompts = [prompt_field] if isinstance(prompt_field, str) else list(prompt_field)
    roles = [answering_roles] if isinstance(answering_roles, str) else list(answering_roles)
    needed = {
        "prompt_field": all(prompts) and prompts,
        "response_field": response_field,
        "answering_roles": all(roles) and roles,
        "before_prompt": before_prompt.strip(),
        "before_response": before_response.strip(),
    }
    for name, value in needed.items():
        if not value:
            raise ConfigurationError(
                f"conversation.{name} is empty: name a {name.partition('_')[2]}"
                if name.endswith("field")
                else f"conversation.{name} holds nothing to tell turns by: give it a text."
            )
    return {
        "prompt_fields": prompts,
        "response_field": response_field,
        "turns_field": turns_field,
        "role_field": role_field,
        "content_field": content_field,
        "answering_roles": roles,
        "before_prompt": before_prompt,
        "before_response": before_response,
    }


_SETTINGS = {
    *("prompt_fields", "response_field", "turns_field", "role_field", "content_field"),
    *("answering_roles", "before_prompt", "before_response"),
}


def check_conversation(name: str, settings: Mapping) -> None:
    """Raises ConfigurationError unless these are settings that `conversation` returns."""
    if set(settings) != _SETTINGS:
        raise ConfigurationError(
            f"{name} is {dict(settings)!r}: give it @conversation(), and what differs as"
            " conversation.prompt_field and so on."
        )


def conversation_text(
    record: dict, settings: Mapping, lookup: Lookup
) -> tuple[str, tuple[int, ...]]:
    """The text of a record, and the lengths of its prompts and responses in turn.

    Args:
      record: one JSON object.
      settings: what `conversation` returns.
      lookup: finds a field.

    Returns:
      The text, and `Document.turns` of it.

    Raises:
      Malformed: a field is missing or no text, there is no response, or one without text.
    """
    said = _turns(record, settings, lookup)
    marks = settings["before_prompt"], settings["before_response"]
    pieces: list[str] = []
    lengths = [0]  # the last one grows; even places are of prompts
    for number, (is_response, content) in enumerate(said, 1):
        if is_response and not content.strip():
            where = f"turn {number} of {len(said)}"
            raise Malformed("a response without text", where, "write what is answered there")
        mark = marks[is_response] if pieces else marks[is_response].lstrip()
        pieces += [mark, content]
        lengths[-1] += len(mark)
        if is_response:
            lengths += [len(content), 0]
        else:
            lengths[-1] += len(content)
    return "".join(pieces), tuple(lengths if lengths[-1] else lengths[:-1])


def _turns(record: dict, settings: Mapping, lookup: Lookup) -> list[tuple[bool, str]]:
    """(whether it is a response, its text) of every turn."""
    if settings["turns_field"]:
        return _listed_turns(record, settings, lookup)
    fields = settings["prompt_fields"]
    prompts = [text for field in fields if (text := _text(record, field, lookup)) is not None]
    response = _text(record, settings["response_field"], lookup)
    missing = settings["response_field"] if response is None else fields[0]
    if response is None or not prompts:
        present = ", ".join(map(repr, list(record)[:10])) or "none"
        setting = "response_field" if response is None else "prompt_field"
        raise Malformed(
            f"no field {missing!r}", f"its fields: {present}", f"set conversation.{setting}"
        )
    return [(False, "\n".join(filter(None, prompts))), (True, response)]


def _listed_turns(record: dict, settings: Mapping, lookup: Lookup) -> list[tuple[bool, str]]:
    field, role_field = settings["turns_field"], settings["role_field"]
    listed = lookup(record, field)
    if not isinstance(listed, list) or not all(isinstance(turn, dict) for turn in listed):
        detail = f"it is {_kind(listed)}"
        raise Malformed(
            f"field {field!r} is no list of turns", detail, "set conversation.turns_field"
        )
    roles = [_text(turn, role_field, lookup) for turn in listed]
    contents = [_text(turn, settings["content_field"], lookup) for turn in listed]
    for name, values in ((role_field, roles), (settings["content_field"], contents)):
        if None in values:
            detail = f"turn {values.index(None) + 1} of {field!r}"
            setting = "role_field" if values is roles else "content_field"
            raise Malformed(f"no field {name!r} in a turn", detail, f"set conversation.{setting}")
    answering = settings["answering_roles"]
    if not set(roles) & set(answering):
        detail = f"those of {field!r}: {', '.join(sorted(set(map(repr, roles)))) or 'none'}"
        remedy = "set conversation.answering_roles"
        raise Malformed(f"no turn of the roles {', '.join(answering)}", detail, remedy)
    return [(role in answering, content or "") for role, content in zip(roles, contents)]


def _text(record: dict, field: str, lookup: Lookup) -> str | None:
    value = lookup(record, field)
    if value is not None and not isinstance(value, str):
        raise Malformed(f"field {field!r} is not a string", f"it is {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return "absent" if value is None else f"a {type(value).__name__}"
