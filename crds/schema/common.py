"""Schemas that several kinds share: whom an object is for, durations, ports, status."""

from __future__ import annotations

from typing import Final

from crds.schema.shape import Rule, Schema, array, choice, constrain, mapping, string, thing, uint32

DURATION_RULE: Final[Rule] = ("duration(self) >= duration('1ms')", "must be a duration of at least 1ms, such as 1.5s")
PORT_RULE: Final[Rule] = ("0 < self && self <= 65535", "must be a port from 1 to 65535")
MOST_LABELS: Final = 4096
MOST_WORKLOAD_LABELS: Final = 256
LABEL_LENGTH: Final = 63
_NO_WILDCARD: Final[Rule] = ('!self.contains("*")', "must not hold a wildcard")
LABELS_RULES: Final[tuple[Rule, ...]] = (
    ('self.all(key, !key.contains("*"))', "label keys must not hold a wildcard"),
    ("self.all(key, key.size() != 0)", "label keys must not be empty"),
)


def duration(text: str) -> Schema:
    """A duration of at least a millisecond, in Go's form."""
    return constrain(string(text), rules=(DURATION_RULE,))


def port(text: str) -> Schema:
    """A port number."""
    return constrain(uint32(text), rules=(PORT_RULE,))


def label_value(text: str = "") -> Schema:
    """The value that a label must have; no pattern."""
    return constrain(string(text, maxLength=LABEL_LENGTH), rules=(_NO_WILDCARD,))


def match_labels() -> Schema:
    """Labels of workloads, as ``selector.matchLabels``."""
    labels = mapping(label_value(), "Labels that a pod must have, all of them.", maxProperties=MOST_LABELS)
    return constrain(labels, rules=LABELS_RULES)


def selector(text: str = "Workloads that this is for; absent: all of the namespace.") -> Schema:
    """``selector`` of security and telemetry objects."""
    return thing(text, {"matchLabels": match_labels()})


def workload_selector(text: str = "Workloads that this is for; absent: all of the namespace.") -> Schema:
    """``workloadSelector`` of networking objects."""
    labels = mapping(label_value(), "Labels that a pod must have, all of them.", maxProperties=MOST_WORKLOAD_LABELS)
    return thing(text, {"labels": labels})


_DNS: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"


def target() -> Schema:
    """A reference to an object of the same namespace."""
    foreign: Rule = ("self.size() == 0", "must be empty: only objects of the same namespace can be named")
    return thing(
        "An object of the same namespace, such as a Gateway, a Service or a ServiceEntry.",
        {
            "group": string("Its API group; empty: the core group.", maxLength=253, pattern=rf"^$|^{_DNS}(\.{_DNS})*$"),
            "kind": string(
                "Its kind.", minLength=1, maxLength=LABEL_LENGTH, pattern="^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
            ),
            "name": string("Its name.", minLength=1, maxLength=253),
            "namespace": constrain(string("Must be absent or empty."), rules=(foreign,)),
        },
        required=("kind", "name"),
    )


def targets() -> Schema:
    """``targetRefs``."""
    return array(target(), "Objects that this is for, in place of a selector.", maxItems=16)


ONE_TARGET: Final[Rule] = (
    "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
    "only one of selector, targetRef and targetRefs can be set",
)


def _generation(text: str) -> Schema:
    return {"description": text, "x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}


def status(extra: dict[str, Schema] | None = None) -> Schema:
    """What the control plane found out about an object. Fields of other writers are kept."""
    condition = thing(
        "One finding that holds or does not.",
        {
            "type": string("What is said, such as Accepted or InUse."),
            "status": string("True, False or Unknown."),
            "reason": string("The reason in one word, for programs."),
            "message": string("The reason for people."),
            "observedGeneration": _generation("The generation of the object that was looked at."),
            "lastTransitionTime": string("When the status last changed.", format="date-time"),
            "lastProbeTime": string("When it was last looked at.", format="date-time"),
        },
    )
    message = thing(
        "One finding about the object.",
        {
            "type": thing("Which finding.", {"code": string("Its stable code."), "name": string("Its name.")}),
            "level": choice(("UNKNOWN", "ERROR", "WARNING", "INFO"), "How bad it is."),
            "documentationUrl": string("Where it is explained."),
        },
    )
    fields = {
        "conditions": array(condition, "What holds of the object now."),
        "validationMessages": array(message, "What is wrong with the object, or remarkable about it."),
        "observedGeneration": _generation("The generation of the object that all of this is about."),
        **(extra or {}),
    }
    made = thing("What the control plane found out about this object.", fields)
    return {**made, "x-kubernetes-preserve-unknown-fields": True}


def allocated_addresses() -> Schema:
    """``status.addresses`` of a ServiceEntry."""
    fields = {"value": string("The address."), "host": string("The host that it stands for.")}
    return array(thing("An address that the mesh gave to a host.", fields), "Addresses that the mesh gave out.")
