from crds import diagnostic
from crds.diagnostic import Code, Position
from crds.key import ConfigKey


def test_a_finding_reads_as_place_code_object_field_and_message() -> None:
    found = diagnostic.error(Code.BAD_VALUE, ConfigKey("", "Service", "n", "a"), "spec.type", "is odd")
    assert str(found) == "M0005 Service/n/a spec.type: is odd"
    assert str(found.at(Position(file="a.yaml", line=3))) == "a.yaml:3 M0005 Service/n/a spec.type: is odd"
    assert str(diagnostic.warning(Code.UNREADABLE, None, "", "gone")) == "M0001 - -: gone"
    assert str(diagnostic.warning(Code.UNREADABLE, ConfigKey("", "Node", "", "a"), "", "g")) == "M0001 Node/a -: g"
