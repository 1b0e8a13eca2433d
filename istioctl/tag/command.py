"""``istioctl tag set|generate|list|remove`` in a cluster. What the objects say is ``documents``'s.

Rights come before webhooks, and new webhooks before old ones go, so that whatever fails leaves pods injected.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import yaml

from istioctl import options, output
from istioctl.errors import CommandError
from istioctl.tag import documents
from istioctl.tag.documents import Tag
from istioctl.views import injection
from istiod.analysis import kinds, webhooks
from istiod.analysis.resources import Collection, resource
from wire.names import LABEL_REVISION

_FORMATS: Final = ("table", "json", "yaml")
_ADMISSION: Final = f"/apis/{documents.ADMISSION}/v1"
_RIGHTS: Final = f"/apis/{documents.RIGHTS}/v1"
_FOLDERS: Final = {
    "ClusterRole": f"{_RIGHTS}/clusterroles",
    "ClusterRoleBinding": f"{_RIGHTS}/clusterrolebindings",
    "MutatingWebhookConfiguration": injection.WEBHOOKS,
    "ValidatingWebhookConfiguration": f"{_ADMISSION}/validatingwebhookconfigurations",
}
_NONE: Final = "No Istio revision tag MutatingWebhookConfigurations to list"
_TIGHT: Final = 1
"""Blanks between columns, as Istio's command has them."""
Json = Mapping[str, Any]


def register(subparsers: Any) -> None:
    """Add the command."""
    commands = subparsers.add_parser(
        "tag", parents=[options.shared()], help="further names of a revision, for namespaces", allow_abbrev=False
    ).add_subparsers(required=True, metavar="COMMAND")
    for name, run in (("set", _set), ("generate", _generate)):
        made = commands.add_parser(name, parents=[options.shared()], help=run.__doc__, allow_abbrev=False)
        add = made.add_argument
        add("tag", metavar="TAG")
        add("-r", "--revision", required=True, help="the control plane that the tag leads to")
        add("--webhook-name", default="", help="default: istio-revision-tag-TAG")
        options.add_truth(made, "--overwrite", default=False, text="let a tag that is there lead elsewhere")
        options.add_truth(
            made, "--auto-inject-namespaces", default=False, text="default tag: inject namespaces without a label, too"
        )
        _add_yes(made)
        made.set_defaults(run=run)
    removed = commands.add_parser(
        "remove", aliases=["delete"], parents=[options.shared()], help=_remove.__doc__, allow_abbrev=False
    )
    removed.add_argument("tag", metavar="TAG")
    _add_yes(removed)
    removed.set_defaults(run=_remove)
    listed = commands.add_parser(
        "list", aliases=["show"], parents=[options.shared()], help=_list.__doc__, allow_abbrev=False
    )
    listed.add_argument("-o", "--output", choices=_FORMATS, default="table", help="default: table")
    listed.set_defaults(run=_list)


def _add_yes(parser: argparse.ArgumentParser) -> None:
    options.add_truth(parser, "-y", "--skip-confirmation", default=False, text="ask nothing")


def _set(given: argparse.Namespace) -> int:
    """Create a tag, or let it lead elsewhere."""
    where = options.cluster(given)
    tag = _wanted(where, given, strict=not given.overwrite)
    made = list(_made(where, tag))
    before = [each for each in _tagged(where, tag.name) if each["metadata"]["name"] != _hook(made)["metadata"]["name"]]
    plain = [each for each in _own(where, given, documents.DEFAULT) if tag.name == documents.DEFAULT]
    if (said := _conflicts(where, made, [*before, *plain])) and not given.skip_confirmation:
        sys.stderr.write(said)
        if not _agreed("Apply anyways? [y/N]"):
            return 0
    for each in made:
        _put(where, each)
    for each in plain:
        where.merge(f"{injection.WEBHOOKS}/{each['metadata']['name']}", documents.deactivated(each))
    for each in before:
        where.send("DELETE", f"{injection.WEBHOOKS}/{each['metadata']['name']}")
    output.say(
        f'Revision tag "{tag.name}" created, referencing control plane revision "{tag.revision}". To enable injection '
        f"using this\nrevision tag, use 'kubectl label namespace <NAMESPACE> istio.io/rev={tag.name}'"
    )
    return 0


def _generate(given: argparse.Namespace) -> int:
    """Write what 'tag set' would make."""
    where = options.cluster(given)
    made = list(_made(where, _wanted(where, given, strict=False)))
    if (said := _conflicts(where, made, [])) and not given.skip_confirmation:
        sys.stderr.write(said)
    apart = json.loads(json.dumps(made))  # else what webhooks have in common would be written once, as an anchor
    output.say(yaml.safe_dump_all(apart, sort_keys=False, allow_unicode=True))
    return 0


def _remove(given: argparse.Namespace) -> int:
    """Remove a tag."""
    where, tag = options.cluster(given), given.tag
    found = _tagged(where, tag)
    if not found:
        raise CommandError(f'cannot remove tag "{tag}": cannot find MutatingWebhookConfiguration for tag')
    asking = [each["metadata"]["name"] for each in _selected(where, "/api/v1/namespaces", f"{LABEL_REVISION}={tag}")]
    caution = f'Caution, found {len(asking)} namespace(s) still injected by tag "{tag}": {" ".join(asking)}'
    if asking and not given.skip_confirmation and not _agreed(f"{caution}\nProceed with operation? [y/N]"):
        output.say("Aborting operation.")
        return 0
    for each in found:
        where.send("DELETE", f"{injection.WEBHOOKS}/{each['metadata']['name']}")
    for kind in ("ClusterRoleBinding", "ClusterRole"):
        for each in _selected(where, _FOLDERS[kind], f"{documents.TAG}={tag},{documents.MANAGED}={documents.OURS}"):
            where.send("DELETE", f"{_FOLDERS[kind]}/{each['metadata']['name']}")
    output.say(f"Revision tag {tag} removed")
    return 0


def _list(given: argparse.Namespace) -> int:
    """List tags, and revisions that have none."""
    where = options.cluster(given)
    found = documents.listed(
        _selected(where, injection.WEBHOOKS, LABEL_REVISION), _selected(where, "/api/v1/namespaces", LABEL_REVISION)
    )
    if not found:
        output.say(_NONE)
    elif given.output == "table":
        rows = [(each["tag"], each["revision"], ",".join(each["namespaces"])) for each in found]
        output.say(output.table(("TAG", "REVISION", "NAMESPACES"), rows, _TIGHT))
    else:
        output.say(output.structured(found, given.output))
    return 0


def _wanted(where: Any, given: argparse.Namespace, *, strict: bool) -> Tag:
    """The tag that the flags describe.

    Raises:
        CommandError: there is no such revision, or something of the tag's name is there already.
    """
    if strict and given.tag != documents.DEFAULT and _own(where, given, given.tag):
        raise CommandError(
            f'cannot create revision tag "{given.tag}": found existing control plane revision with same name'
        )
    found = _own(where, given, given.revision)
    if len(found) != 1:
        how = "found multiple canonical webhooks" if found else "cannot find MutatingWebhookConfiguration"
        raise CommandError(f'cannot modify tag: {how} with revision "{given.revision}"')
    if _tagged(where, given.tag) and not given.overwrite:
        raise CommandError(f'revision tag "{given.tag}" already exists, and --overwrite is false')
    if given.auto_inject_namespaces and given.tag != documents.DEFAULT:
        output.complain("--auto-inject-namespaces concerns the tag default only", "Warning")
    return Tag(
        name=given.tag,
        revision=given.revision,
        injector=found[0],
        root=given.istioNamespace,
        account=_account(where, given),
        webhook_name=given.webhook_name,
        by_default=given.auto_inject_namespaces,
    )


def _own(where: Any, given: argparse.Namespace, revision: str) -> list[Json]:
    """What the installation of a revision made, in this mesh: not its tags."""
    found = injection.injectors(_selected(where, injection.WEBHOOKS, f"{LABEL_REVISION}={revision},!{documents.TAG}"))
    return [each for each in found if _place(each) in ("", given.istioNamespace)]


def _place(configuration: Json) -> str:
    """The namespace of the Service that a configuration calls; "" where it calls an address."""
    return next(str(each["clientConfig"].get("service", {}).get("namespace", "")) for each in configuration["webhooks"])


def _account(where: Any, given: argparse.Namespace) -> str:
    folder = f"/apis/apps/v1/namespaces/{given.istioNamespace}/deployments"
    found = _selected(where, folder, f"app=istiod,{LABEL_REVISION}={given.revision}")
    return next((str(each["spec"]["template"]["spec"].get("serviceAccountName", "")) for each in found), "")


def _made(where: Any, tag: Tag) -> Iterator[Json]:
    """What a tag consists of, in the order in which it is to be applied."""
    if tag.account:
        yield from documents.rights(tag)
    else:
        output.complain(
            f"no Deployment of istiod with revision {tag.revision} in {tag.root}: nobody will renew the tag's caBundle "
            "when the CA's root changes",
            "Warning",
        )
    yield documents.webhook(tag)
    if tag.name == documents.DEFAULT:
        yield documents.validator(
            tag, where.read(f"{_FOLDERS['ValidatingWebhookConfiguration']}/{documents.VALIDATOR}")
        )


def _hook(made: Sequence[Json]) -> Json:
    return next(each for each in made if each["kind"] == "MutatingWebhookConfiguration")


def _conflicts(where: Any, made: Sequence[Json], leaving: Sequence[Json]) -> str:
    """What would be wrong with the new webhooks beside those that stay; "" if nothing."""
    hook = _hook(made)
    gone = {hook["metadata"]["name"], *(each["metadata"]["name"] for each in leaving)}
    kind = {"apiVersion": hook["apiVersion"], "kind": hook["kind"]}
    there = [{**kind, **each} for each in where.listed(injection.WEBHOOKS, "mutating webhooks")]
    found = [hook, *(each for each in there if each["metadata"]["name"] not in gone)]
    if (service := hook["webhooks"][0]["clientConfig"].get("service")) is not None:
        path = f"/api/v1/namespaces/{service['namespace']}/services/{service['name']}"
        if (one := where.read(path)) is not None:
            found.append({"apiVersion": "v1", "kind": kinds.SERVICE.name, **one})
    known = Collection(each for each in map(resource, found) if each is not None)
    said = [
        str(each)
        for each in webhooks.INJECTION_HOOKS.run(known)
        if each.resource is not None and each.resource.name == hook["metadata"]["name"]
    ]
    return "".join(
        f"{line}\n" for line in ("creating tag would conflict, pass --skip-confirmation to proceed:", *said) if said
    )


def _put(where: Any, made: Json) -> None:
    """Create an object, or put it in the place of the one of its name."""
    folder = _FOLDERS[made["kind"]]
    path = f"{folder}/{made['metadata']['name']}"
    if (found := where.read(path)) is None:
        where.send("POST", folder, made)
    else:
        where.send("PUT", path, documents.laid_over(made, found))


def _tagged(where: Any, tag: str) -> list[Json]:
    return _selected(where, injection.WEBHOOKS, f"{documents.TAG}={tag}")


def _selected(where: Any, path: str, selector: str) -> list[Json]:
    return list(where.listed(path, path.rpartition("/")[2], [("labelSelector", selector)]))


def _agreed(question: str) -> bool:
    output.say(question)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
