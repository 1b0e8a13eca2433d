"""Telemetry (features rows Q3-Q6), with rules that a model cannot say. Source: istio.telemetry telemetry.proto."""

from __future__ import annotations

from typing import Any, Final, get_args

from crds.schema import common
from crds.schema.shape import Rule, Schema, array, boolean, choice, mapping, number, string, thing
from crds.telemetry import IstioMetric

_OPTIONAL: Final[dict[str, Any]] = {"nullable": True}


def _mode() -> Schema:
    return choice(("CLIENT_AND_SERVER", "CLIENT", "SERVER"), "Whose side of a call: the caller's, the callee's, both.")


def _providers() -> Schema:
    name = string("Its name in extensionProviders of the mesh configuration.", minLength=1)
    provider = thing("One provider.", {"name": name}, required=("name",))
    return array(provider, "Who gets the data; absent: the mesh's default.")


def _tags() -> Schema:
    def value(text: str) -> Schema:
        return thing(text, {"value": string("The text.", minLength=1)}, required=("value",))

    def lookup(text: str) -> Schema:
        fields = {"name": string("Its name.", minLength=1), "defaultValue": string("The value where there is none.")}
        return thing(text, fields, required=("name",))

    tag = thing(
        "Where a tag's value comes from.",
        {
            "literal": value("A fixed text."),
            "environment": lookup("A variable of the proxy's environment."),
            "header": lookup("A header of the request."),
            "formatter": value("A format as in access logs."),
        },
        one_of=(("literal", "environment", "header", "formatter"),),
    )
    return mapping(tag, "Further tags of spans, by name.")


def _tracing() -> Schema:
    percent = number("Percent of requests that are traced.", minimum=0, maximum=100, **_OPTIONAL)
    return thing(
        "Tracing of one side, or of both.",
        {
            "match": thing("Which calls.", {"mode": _mode()}),
            "providers": _providers(),
            "randomSamplingPercentage": percent,
            "disableSpanReporting": boolean("Report no spans; context still goes on.", **_OPTIONAL),
            "disableContextPropagation": boolean("Pass no trace context on.", **_OPTIONAL),
            "enableIstioTags": boolean("Tags such as istio.canonical_service.", **_OPTIONAL),
            "useRequestIdForTraceSampling": boolean("Let the request's id say whether it is traced.", **_OPTIONAL),
            "customTags": _tags(),
        },
    )


def _metrics() -> Schema:
    has_value: Rule = (
        '((has(self.operation) ? self.operation : "") == "UPSERT") ? (self.value != "") : true',
        "UPSERT needs a value",
    )
    no_value: Rule = (
        '((has(self.operation) ? self.operation : "") == "REMOVE") ? !has(self.value) : true',
        "REMOVE takes no value",
    )
    tag = thing(
        "What happens to one tag.",
        {
            "operation": choice(("UPSERT", "REMOVE"), "Set it, or leave it out."),
            "value": string("A CEL expression that gives the value."),
        },
        rules=(has_value, no_value),
    )
    match = thing(
        "Which metric.",
        {
            "metric": choice(get_args(IstioMetric), "One of Istio's."),
            "customMetric": string("Another one, by name.", minLength=1),
            "mode": _mode(),
        },
        one_of=(("metric", "customMetric"),),
    )
    override = thing(
        "What is different for some metrics.",
        {
            "match": match,
            "disabled": boolean("Do not report them.", **_OPTIONAL),
            "tagOverrides": mapping(tag, "Changes of tags, by name."),
        },
    )
    return thing(
        "Metrics for some providers.",
        {
            "providers": _providers(),
            "overrides": array(override, "What is different; later ones win."),
            "reportingInterval": common.duration("How often TCP metrics are reported."),
        },
    )


def _access_logging() -> Schema:
    return thing(
        "Access logs for some providers.",
        {
            "match": thing("Which calls.", {"mode": _mode()}),
            "providers": _providers(),
            "disabled": boolean("Log nothing.", **_OPTIONAL),
            "filter": thing(
                "Which calls are logged.", {"expression": string("A CEL expression, such as response.code >= 400.")}
            ),
        },
    )


def telemetry() -> Schema:
    """``spec`` of Telemetry."""
    return thing(
        "What is measured, logged and traced.",
        {
            "accessLogging": array(_access_logging(), "Access logs."),
            "metrics": array(_metrics(), "Metrics."),
            "tracing": array(_tracing(), "Tracing."),
            "selector": common.selector(),
            "targetRef": common.target(),
            "targetRefs": common.targets(),
        },
        rules=(common.ONE_TARGET,),
    )
