#!/usr/bin/env python3
"""Holds the ec2 crate against Amazon's own model of the API, by botocore's own parser, serializer and signer.

Usage: model_check.py PATH-OF-THE-EXAMPLE `model` OF THE CRATE `ec2`

test_model.py builds the example and runs this.

What is checked, for every action of the crate's table:

- names    the parameters that the crate obeys or names as unobeyed are exactly those of the model, of the same types;
- request  what botocore sends for all obeyed parameters arrives in full, parameter by parameter; each unobeyed one
           is refused by name, or passes when it states the default, or makes no difference, as the table says;
           leaving out a required one is a MissingParameter; misspelling one is an UnknownParameter;
- answer   botocore parses every element of the crate's filled sample, to the value that was written, and an error;
- signing  botocore's signatures verify, by header and by query, and no longer once anything was changed.
"""

import base64
import datetime
import json
import subprocess
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.parsers
import botocore.serialize
import botocore.session

MODELS = {name: botocore.session.get_session().get_service_model(name) for name in ("ec2", "sts")}
# Every request may carry it; the crate handles it beside the action's own parameters.
COMMON = {"DryRun"}
# Elements that every EC2 answer may carry, though the model of some actions leaves them out.
UNMODELLED = {"requestId", "ResponseMetadata", "return"}
# Where the crate reads a type out of a text that the model leaves a text.
FINER = {("string", "blob"), ("string", "timestamp"), ("long", "integer"), ("float", "double")}
EXAMPLE = sys.argv[1] if len(sys.argv) == 2 else sys.exit(__doc__)

problems = []
checked = 0


def expect(condition, *message):
    global checked
    checked += 1
    if not condition:
        problems.append(" ".join(str(part) for part in message))


def run(mode, lines=()):
    """The example's answers, one per line."""
    text = "".join(line + "\n" for line in lines)
    done = subprocess.run([EXAMPLE, mode], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{EXAMPLE} {mode}: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def capital(name):
    return name[:1].upper() + name[1:]


def wire_name(name, shape, ask):
    """What a member of a structure is called in a request (`ask`) or in an answer."""
    if ask and "queryName" in shape.serialization:
        return shape.serialization["queryName"]
    name = shape.serialization.get("name", name)
    return capital(name) if ask else name


def leaves(shape, ask, path=()):
    """(name, shape, member path) of all that holds a value. Names have N for an index."""
    if shape.type_name == "list":
        yield from leaves(shape.member, ask, path + (("N", None),))
    elif shape.type_name == "structure":
        for member, below in shape.members.items():
            yield from leaves(below, ask, path + ((wire_name(member, below, ask), member),))
    else:
        yield ".".join(name for name, _ in path), shape


def covers(pattern, name):
    return name == pattern or name.startswith(pattern + ".")


def same_type(kind, shape):
    if isinstance(kind, list):
        return shape.type_name == "string" and set(kind) <= set(shape.enum)
    return kind == shape.type_name or (shape.type_name, kind) in FINER


def check_names(action):
    """Every parameter of the model is recognised, every recognised one is in the model."""
    operation = MODELS[action["service"]].operation_model(action["action"])
    model = dict(leaves(operation.input_shape, True)) if operation.input_shape else {}
    obeyed = {field["name"]: field["kind"] for field in action["obeyed"]}
    unobeyed = [name for name, _ in action["unobeyed"]]
    for name in model.keys() - COMMON:
        expect(name in obeyed or any(covers(entry, name) for entry in unobeyed), action["action"], "misses", name)
    for name, kind in obeyed.items():
        known = name in model
        expect(known, action["action"], "invents", name)
        expect(not known or same_type(kind, model[name]), action["action"], name, kind, "is", model.get(name))
    for entry in unobeyed:
        expect(any(covers(entry, name) for name in model), action["action"], "names in vain", entry)
    answers = dict(leaves(operation.output_shape, False)) if operation.output_shape else {}
    answers = {".".join(capital(part) for part in name.split(".")): shape for name, shape in answers.items()}
    for field in action["answered"]:
        name = field["name"]
        known = name in answers or name == "Return"
        expect(known, action["action"], "answers", name, "which the model lacks")
        if name in answers:
            expect(same_type(field["kind"], answers[name]), action["action"], name, field["kind"], answers[name])


def sample(name, shape):
    """A value of a type, for botocore to send."""
    if name == "UserData":
        return base64.b64encode(b"#!/bin/sh\n").decode()
    return {
        "string": lambda: shape.enum[-1] if shape.enum else f"{name} <&> é",
        "boolean": lambda: True,
        "integer": lambda: 7,
        "long": lambda: 7,
        "double": lambda: 7.5,
        "float": lambda: 7.5,
        "blob": lambda: b"\x00\xffbytes",
        "timestamp": lambda: datetime.datetime(2026, 11, 21, tzinfo=datetime.timezone.utc),
    }[shape.type_name]()


def arguments(shape, wanted, path=()):
    """botocore's arguments with exactly the leaves for which `wanted` has a value or says True."""
    here = ".".join(path)
    if shape.type_name == "list":
        value = arguments(shape.member, wanted, path + ("N",))
        return None if value is None else [value]
    if shape.type_name == "structure":
        values = {
            member: arguments(below, wanted, path + (wire_name(member, below, True),))
            for member, below in shape.members.items()
        }
        values = {member: value for member, value in values.items() if value is not None}
        return values or None
    if here not in wanted:
        return None
    value = wanted[here]
    if value is True:
        return sample(here, shape)
    return {"integer": int, "boolean": lambda text: text == "true"}.get(shape.type_name, str)(value)


def body(action, wanted):
    """What botocore sends."""
    model = MODELS[action["service"]]
    operation = model.operation_model(action["action"])
    values = arguments(operation.input_shape, wanted) if operation.input_shape else None
    serializer = botocore.serialize.create_serializer(model.metadata["protocol"], include_validation=False)
    return serializer.serialize_to_request(values or {}, operation)["body"]


def arrived(value, path=""):
    """The names and values of a typed request."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from arrived(below, f"{path}.{capital(name)}" if path else capital(name))
    elif isinstance(value, list):
        for index, below in enumerate(value, 1):
            yield from arrived(below, f"{path}.{index}")
    elif value is not None:
        yield path, str(value).lower() if isinstance(value, bool) else str(value)


class Requests:
    """Requests to decode in one go, each with what must come of it."""

    def __init__(self):
        self.bodies, self.verdicts = [], []

    def add(self, fields, verdict):
        self.bodies.append(urllib.parse.urlencode(fields))
        self.verdicts.append(verdict)

    def judge(self):
        for answer, verdict in zip(run("decode", self.bodies), self.verdicts, strict=True):
            verdict(answer)


def check_requests(action, requests):
    name = action["action"]
    base = {field["name"]: True for field in action["obeyed"]}
    # A parameter can be in both: obeyed by its shape, and refused for now by the table, or by the handler in part.
    unobeyed = [(entry, accepts) for entry, accepts in action["unobeyed"] if "partly" not in (accepts or ())]
    base = {leaf: value for leaf, value in base.items()
            if not any(covers(entry, leaf) for entry, _ in unobeyed)}
    full = body(action, base)
    own = {key: str(value) for key, value in full.items() if key not in ("Action", "Version")}
    expect(len(own) == len(base), name, "botocore sent", sorted(own), "for", sorted(base))

    def arrives(answer):
        got = dict(arrived(answer.get("request")))
        expect(got == own, name, "lost something:", answer, own)

    def refused(code, parameter):
        def verdict(answer):
            right = answer.get("code") == code and parameter in answer.get("message", "")
            expect(right, name, parameter, "should be", code, "but:", answer)
        return verdict

    requests.add(full, arrives)
    for parameter in own:
        requests.add({**full, parameter + "x": "1"}, refused("UnknownParameter", parameter + "x"))
    operation = MODELS[action["service"]].operation_model(name)
    for entry, accepts in unobeyed:
        for leaf, _ in leaves(operation.input_shape, True):
            if not covers(entry, leaf):
                continue
            sent = ".".join("1" if part == "N" else part for part in leaf.split("."))
            if accepts is None or "only" in accepts:
                other = {**body(action, {**base, leaf: True}), sent: "no default"}
                requests.add(other, refused("UnsupportedOperation", sent))
            if accepts is not None:
                value = accepts.get("only", True)
                requests.add(body(action, {**base, leaf: value}), arrives)
    for member in operation.input_shape.required_members if operation.input_shape else ():
        query = wire_name(member, operation.input_shape.members[member], True)
        without = {key: value for key, value in full.items() if not covers(query, key)}
        requests.add(without, refused("MissingParameter", query))


def check_element(action, element, shape, parsed, path):
    """An element is known to the model, and botocore read from it what it says."""
    if shape.type_name == "list":
        expect(isinstance(parsed, list) and len(parsed) == len(element), action, path, "lost members")
        for index, child in enumerate(element):
            check_element(action, child, shape.member, parsed[index], f"{path}[{index}]")
        expect(all(tag(child) == shape.member.serialization.get("name", "member") for child in element),
               action, path, "has members of another name")
    elif shape.type_name == "structure":
        members = {wire_name(member, below, False): (member, below) for member, below in shape.members.items()}
        for child in element:
            if path == "" and tag(child) in UNMODELLED and tag(child) not in members:
                continue
            known = tag(child) in members
            expect(known, action, f"{path}.{tag(child)}", "is not in the model")
            if known:
                member, below = members[tag(child)]
                expect(member in parsed, action, f"{path}.{tag(child)}", "was not parsed")
                check_element(action, child, below, parsed.get(member), f"{path}.{tag(child)}")
    else:
        said = {
            "string": lambda: element.text or "",
            "boolean": lambda: {"true": True, "false": False}[element.text],
            "integer": lambda: int(element.text),
            "long": lambda: int(element.text),
            "double": lambda: float(element.text),
            "timestamp": lambda: datetime.datetime.fromisoformat(element.text),
        }[shape.type_name]()
        expect(said == parsed, action, path, said, "was parsed as", parsed)


def tag(element):
    return element.tag.rpartition("}")[2]


def check_answer(action):
    model = MODELS[action["service"]]
    operation = model.operation_model(action["action"])
    parser = botocore.parsers.create_parser(model.metadata["protocol"])
    response = {"status_code": 200, "headers": {}, "body": action["response"].encode()}
    parsed = parser.parse(response, operation.output_shape)
    expect(parsed["ResponseMetadata"].get("RequestId") == "request-1", action["action"], "lost its request id")
    root = ElementTree.fromstring(action["response"])
    namespace = model.metadata["xmlNamespace"].rstrip("/") + "/"
    expect(root.tag == f"{{{namespace}}}{action['action']}Response", action["action"], "has the root", root.tag)
    if operation.output_shape:
        wrapper = operation.output_shape.serialization.get("resultWrapper")
        content = root.find(f"{{{namespace}}}{wrapper}") if wrapper else root
        check_element(action["action"], content, operation.output_shape, parsed, "")
    refusal = {"status_code": 400, "headers": {}, "body": action["refusal"].encode()}
    error = parser.parse(refusal, operation.output_shape)
    expect(error["Error"]["Code"] == "MissingParameter", action["action"], "refuses as", error)
    expect(error["Error"]["Message"].endswith("Some<Thing>"), action["action"], "refuses as", error)
    expect(error["ResponseMetadata"].get("RequestId") == "request-1", action["action"], "refuses as", error)


def signed(service, presign, token=None, url="http://127.0.0.1:4566/", **request):
    """A request as botocore signs it, for the example to verify."""
    credentials = botocore.credentials.Credentials(
        "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token)
    request = botocore.awsrequest.AWSRequest(url=url, **request)
    kind = botocore.auth.SigV4QueryAuth if presign else botocore.auth.SigV4Auth
    kind(credentials, service, "eu-central-1").add_auth(request)
    prepared = request.prepare()
    address = urllib.parse.urlsplit(prepared.url)
    headers = {"host": address.netloc, **{name: text(value) for name, value in prepared.headers.items()}}
    return {
        "service": service, "region": "eu-central-1", "method": prepared.method, "path": address.path,
        "query": address.query, "headers": headers, "body": text(prepared.body or ""),
        "now": datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ"),
    }


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def check_signing():
    fields = {"Action": "DescribeTags", "Version": "2016-11-15", "Filter.1.Name": "a b+c/é", "Filter.1.Value.1": ""}
    post = {"method": "POST", "data": fields, "headers": {"Content-Type": "application/x-www-form-urlencoded"}}
    get = {"method": "GET", "url": "http://127.0.0.1:4566/?" + urllib.parse.urlencode(fields, quote_via=urllib.parse.quote)}
    good = [
        (signed(service, presign, token, **request), presign, token)
        for service in ("ec2", "sts") for token in (None, "token/+=")
        for presign, request in ((False, post), (False, get), (True, get))
    ]
    for (request, presign, token), answer in zip(good, run("verify", [json.dumps(entry[0]) for entry in good])):
        wanted = {"access_key_id": "AKIDEXAMPLE", "token": token, "presigned": presign}
        expect(answer == wanted, "signature of", request, "was", answer)
    base = good[0][0]
    late = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).strftime("%Y%m%dT%H%M%SZ")
    bad = [
        ({**base, "body": base["body"] + "&DryRun=true"}, "AuthFailure", 401),
        ({**base, "method": "PUT"}, "AuthFailure", 401),
        ({**base, "path": "/x"}, "AuthFailure", 401),
        ({**base, "query": "Action=RunInstances"}, "AuthFailure", 401),
        ({**base, "headers": {**base["headers"], "host": "other"}}, "AuthFailure", 401),
        ({**base, "headers": {**base["headers"], "X-Amz-Extra": "1"}}, "AuthFailure", 401),
        ({**base, "region": "us-east-1"}, "AuthFailure", 401),
        ({**base, "service": "sts"}, "SignatureDoesNotMatch", 403),
        ({**base, "now": late}, "RequestExpired", 400),
        ({**base, "headers": {"host": "127.0.0.1:4566"}}, "MissingAuthenticationToken", 403),
    ]
    for (request, code, status), answer in zip(bad, run("verify", [json.dumps(entry[0]) for entry in bad])):
        right = (answer.get("code"), answer.get("status")) == (code, status)
        expect(right, "should be", code, status, "but:", answer, request)


def main():
    actions = run("describe")
    requests = Requests()
    for action in actions:
        check_names(action)
        check_requests(action, requests)
        check_answer(action)
    requests.judge()
    check_signing()
    for problem in problems:
        print(problem)
    print(f"{len(actions)} actions, {len(requests.bodies)} requests, {checked} checks, {len(problems)} problems")
    sys.exit(bool(problems))


main()
