"""Names under which facts of ours stand among a record's attributes, and the kinds of records.

What OpenTelemetry has a name for has that one; the rest begins with `flow.`.
"""

from __future__ import annotations

from typing import Final

SPAN: Final = "span"
GENERATION: Final = "generation"
EVENT: Final = "event"
"""A moment inside the record that is its parent; it has no length."""
SCORE: Final = "score"
"""A judgement of the record that is its parent, or of the whole trace; it has no length."""
MOMENTS: Final = frozenset({EVENT, SCORE})
"""Kinds of records that are told as part of their parent, and not as a span below it."""
ENGINE_KINDS: Final = frozenset({"flow", "node", "item", "workflow", "policy", "resource"})

SESSION: Final = "session_id"
USER: Final = "user_id"
TAGS: Final = "tags"
METADATA: Final = "metadata"

PARAMETER: Final = "gen_ai.request."
"""Prefix of a model's parameters."""
MODEL: Final = "gen_ai.request.model"
ANSWERED: Final = "gen_ai.response.model"
"""The model that answered, where a provider says so itself."""
USAGE: Final = "gen_ai.usage."
"""Prefix of what was used up: `input_tokens`, `output_tokens`, `total_tokens`, and any other."""
COST: Final = "flow.cost"
"""Whole cost in US dollars; its parts follow this name and a dot."""
FIRST_TOKEN: Final = "flow.completion_start_ns"
"""Nanoseconds from the start to the first piece of the answer."""
LEVEL: Final = "flow.level"
STATUS: Final = "flow.status_message"
REASON: Final = "flow.reason"
"""Why a node was not run."""
NODE: Final = "flow.node.name"
"""Of a link: the node at the other end."""
ABANDONED: Final = "abandoned"
"""Says that the object went away without having been ended."""
VALUE: Final = "value"
COMMENT: Final = "comment"

PARENT: Final = "flow.parent"
"""Says of a record whose parent is a span that is not ours who has that span."""
FROM_ELSEWHERE: Final = "remote"
"""Another process, which called this one."""
FROM_OPENTELEMETRY: Final = "opentelemetry"
"""A TracerProvider in this process: it arrives where that one sends to."""
FROM_LANGFUSE: Final = "langfuse"
"""Langfuse's own SDK: it arrives in Langfuse."""
PARENTS: Final = (FROM_ELSEWHERE, FROM_OPENTELEMETRY, FROM_LANGFUSE)

LINKS: Final = "otel.links"
"""Spans that a record has to do with: a list of `trace_id` and `span_id` in hex, `attributes`."""
SCOPE: Final = "otel.scope.name"
"""What made the span, of a record that came from another instrumentation."""
SCOPE_VERSION: Final = "otel.scope.version"
SPAN_KIND: Final = "otel.kind"
"""internal, server, client, producer or consumer."""
TRACE_ID: Final = "otel.trace_id"
"""32 hex digits: the trace that such a span has where it was made, if that is not ours."""
