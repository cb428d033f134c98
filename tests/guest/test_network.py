"""What an instance finds on its network: names, metadata, a way out, and nothing that comes in by it."""

import json

import pytest

# Answers each connection with the address it comes from.
WHO_ASKS = (
    'import socket; s = socket.create_server(("", 80)); print("up", flush=True)\n'
    "while True:\n c, who = s.accept(); c.sendall(who[0].encode()); c.close()"
)
# What a port 22 says first, or why it says nothing.
GREETING = (
    "import socket, sys\n"
    "try: print(socket.create_connection((sys.argv[1], 22), 4).recv(4).decode())\n"
    "except OSError as error: print(type(error).__name__)"
)


@pytest.fixture(scope="module")
def internet(lab):
    """A namespace that plays the internet beyond the host: 203.0.113.10, who knows no way back to what is behind the host
    but the host itself."""
    lab.shell(
        "ip netns add internet; ip link add uplink type veth peer name eth0 netns internet; "
        "ip addr add 203.0.113.1/24 dev uplink; ip link set uplink up; "
        "ip -n internet addr add 203.0.113.10/24 dev eth0; ip -n internet link set eth0 up; "
        "ip -n internet route add default via 203.0.113.1"
    )
    lab.run("sh", "-c", 'ip netns exec internet setsid python3 -ISc "$1" > /run/internet.log 2>&1 & echo $! > /run/internet.pid', "sh", WHO_ASKS)
    lab.shell("until grep -q up /run/internet.log; do sleep 0.2; done")
    yield "203.0.113.10"
    lab.shell("kill $(cat /run/internet.pid); ip netns del internet")


def test_the_way_out_and_nothing_in(instance, internet, lab):
    # Nobody out there knows the pool, so the host lends its own address.
    assert instance.ssh(f"nc -w 10 {internet} 80 < /dev/null") == "203.0.113.1"
    greeting = ["timeout", "10", "python3", "-ISc", GREETING, instance.describe()["PublicIpAddress"]]
    assert lab.run(*greeting).strip() == "SSH-"
    assert lab.run("ip", "netns", "exec", "internet", *greeting).strip() == "TimeoutError"


def test_without_a_public_address_there_is_no_way_out(launch, ec2, reachable, internet):
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    card = {"DeviceIndex": 0, "SubnetId": subnet, "Groups": [reachable], "AssociatePublicIpAddress": False}
    hidden = launch(NetworkInterfaces=[card])
    assert hidden.ssh(f"nc -w 3 {internet} 80 < /dev/null || echo no way") == "no way\n"
    assert "PublicIpAddress" not in hidden.describe()


def test_each_processor_has_a_pair_of_queues(instance):
    *queues, processors = instance.ssh("cd /sys/class/net/eth0/queues; ls -d rx-* | wc -l; ls -d tx-* | wc -l; nproc").split()
    assert queues == [processors, processors] and int(processors) > 1
    # What the second processor sends goes by its own pair, and so do the answers.
    came = lambda: sum(map(int, instance.ssh("awk '/-input.1$/ { print $2, $3 }' /proc/interrupts").split()))
    before = came()
    assert "5 packets received" in instance.ssh("taskset 2 ping -c 5 $(ip route | awk '/default/ { print $3 }')")
    assert came() > before


def test_names_of_instances_are_known(instance):
    known = instance.describe()
    said = instance.ssh(f"nslookup {known['PrivateDnsName']}")
    assert known["PrivateIpAddress"] in said


def test_metadata_in_both_versions(instance):
    known = instance.describe()
    assert instance.metadata("instance-id") == instance.id
    assert instance.metadata("public-ipv4") == known["PublicIpAddress"]
    assert instance.metadata("local-ipv4") == known["PrivateIpAddress"]
    token = instance.metadata_token()
    asked = f"wget -q -O - --header 'X-aws-ec2-metadata-token: {token}' http://169.254.169.254/latest/dynamic/instance-identity/document"
    document = json.loads(instance.ssh(asked))
    assert (document["instanceId"], document["region"]) == (instance.id, "us-east-1")
    assert document["accountId"] == "123456789012"


def test_version_1_of_metadata_can_be_refused(launch):
    instance = launch(MetadataOptions={"HttpTokens": "required"})
    without = instance.ssh("wget -O - http://169.254.169.254/latest/meta-data/instance-id 2>&1 || true")
    assert "401" in without
    token = instance.metadata_token()
    asked = f"wget -q -O - --header 'X-aws-ec2-metadata-token: {token}' http://169.254.169.254/latest/meta-data/instance-id"
    assert instance.ssh(asked) == instance.id
