"""Addresses, networks, hosts and origins: each spelling has one canonical form."""

import pytest

from authapi.hosts import (
    are_same_site,
    as_origin,
    host_of,
    is_host,
    is_name,
    network_of,
    networks_of,
    plain_address,
    plain_network,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:1234", "203.0.113.9"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[::1]:443", "::1"),
        # RFC 5952, 4: leading zeros, one run of zeros, lower case
        ("2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"),
        ("2001:db8:0:0:1::1", "2001:db8::1:0:0:1"),
        ("2001:DB8::A", "2001:db8::a"),
        ("2001:db8::0:1", "2001:db8::1"),
        # RFC 4291, 2.2 and 2.5.5.2: IPv4 at the end, and IPv4-mapped in three spellings
        ("64:ff9b::203.0.113.9", "64:ff9b::cb00:7109"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("::FFFF:cb00:7109", "203.0.113.9"),
        ("0:0:0:0:0:ffff:203.0.113.9", "203.0.113.9"),
        ("[::ffff:203.0.113.9]:80", "203.0.113.9"),
    ],
)
def test_address(text, address):
    """An IP address has one text, whatever its spelling, brackets and port (RFC 5952)."""
    assert address == plain_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unknown",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "010.0.0.1",
        "256.0.0.1",
        "1.2.3.4.5",
        " 1.2.3.4",
        "1.2.3.4\xa0",
        "\u0661.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:x",
        "1.2.3.4/32",
        "::1::",
        ":::1",
        "[::1",
        "[::1]x",
        "[]",
        "fe80::1%eth0",
        "[fe80::1%25eth0]",
        "::ffff:1.2.3.4%1",
        "12345::",
    ],
)
def test_no_address(text):
    """A text that is no IP address of RFC 4291 or RFC 6943, 3.1.1, or has a zone, is refused."""
    with pytest.raises(ValueError):
        plain_address(text)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),  # IPv4-mapped: RFC 4291, 2.5.5.2
        ("::203.0.113.9", "203.0.113.9"),  # IPv4-compatible: RFC 4291, 2.5.5.1
        ("::1", "::/64"),  # the loopback address, and not 0.0.0.1
        ("::", "::/64"),
        ("::ffff:0:203.0.113.9", "203.0.113.9"),  # IPv4-translated: RFC 2765, 2.1
        ("64:ff9b::203.0.113.9", "203.0.113.9"),  # the well-known prefix: RFC 6052, 2.1
        ("64:FF9B::CB00:7109", "203.0.113.9"),
        ("64:ff9b::1:cb00:7109", "64:ff9b::/64"),  # beyond the /96
        ("64:ff9b:1::203.0.113.9", "64:ff9b:1::cb00:7109"),  # local prefixes: RFC 8215
        ("64:ff9b:1:cb00:71:900::", "64:ff9b:1:cb00:71:900::"),
        ("2002:cb00:7109::1", "203.0.113.9"),  # 6to4: RFC 3056, 2
        ("2002:cb00:7109:ffff:1:2:3:4", "203.0.113.9"),
        ("2001:0:4136:e378:8000:63bf:34ff:8ef6", "203.0.113.9"),  # Teredo: RFC 4380, 4
        ("2001:0:c000:201:0:1234:34ff:8ef6", "203.0.113.9"),  # by another server and port
        ("2001:1::1", "2001:1::/64"),  # beyond Teredo's /32
        ("", ""),
        ("unix:", "unix:"),
        ("unknown", "unknown"),
    ],
)
def test_network(address, network):
    """A client has one network, also where it reaches IPv6 by a tunnel or a translator."""
    assert network == network_of(address)


@pytest.mark.parametrize(
    ("address", "networks"),
    [
        ("203.0.113.9", ("203.0.113.9",)),
        ("2001:db8:1:2ff::1", ("2001:db8:1:2ff::/64", "2001:db8:1:200::/56", "2001:db8:1::/48")),
        ("64:ff9b::203.0.113.9", ("203.0.113.9",)),
        ("64:ff9b:1::203.0.113.9", ("64:ff9b:1::cb00:7109",)),
        ("2002:cb00:7109::1", ("203.0.113.9",)),
        ("unix:", ("unix:",)),
    ],
)
def test_wider_networks(address, networks):
    """A client of IPv6 may have a /64, a /56 or a /48; one of IPv4 has its address (RIPE-690)."""
    assert networks == networks_of(address)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1/32", "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/08", "10.0.0.0/8"),
        ("0.0.0.0/1", "0.0.0.0/1"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("2001:db8::1/128", "2001:db8::1"),
        ("::1", "::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:a00:0/104", "10.0.0.0/8"),
    ],
)
def test_networks_of_proxies(text, network):
    """A network has one text (RFC 4632, 3.1; RFC 4291, 2.3)."""
    assert network == plain_network(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/8",
        "10.0.0.0/",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/-8",
        "10.0.0.0/8/8",
        "0.0.0.0/x",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/0.255.255.255",
        "10.0.0.0/\u0668",
        "10.0.0/8",
        "10.0.0.1:80",
        "[::1]",
        "2001:db8::1/32",
        "::/129",
        "0.0.0.0/0",
        "::/0",
        "::ffff:0:0/96",
        "::ffff:0.0.0.0/95",
        "fe80::1%eth0",
        "fe80::%eth0/10",
    ],
)
def test_no_network(text):
    """A mask, bits beyond the length, everybody, and an address with a port or zone are refused."""
    with pytest.raises(ValueError):
        plain_network(text)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        # RFC 6454, 4 and 6.2: lower case, no default port
        ("https://app.example.com", "https://app.example.com"),
        ("HTTPS://App.Example.COM", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("https://app.example.com:0443", "https://app.example.com"),
        ("https://app.example.com:", "https://app.example.com"),
        ("https://app.example.com:80", "https://app.example.com:80"),
        ("http://app.example.com:80", "http://app.example.com"),
        ("http://app.example.com:443", "http://app.example.com:443"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("http://a_b.example", "http://a_b.example"),
        ("http://a.example:65535", "http://a.example:65535"),
        (f"http://{'a.' * 123}example", f"http://{'a.' * 123}example"),  # 253 characters
        ("https://XN--BCHER-KVA.example", "https://xn--bcher-kva.example"),
        ("http://127.0.0.1:3001", "http://127.0.0.1:3001"),
        # WHATWG URL, 3.5: IPv6 is compressed, and an IPv4-mapped address is hexadecimal
        ("http://[::1]:3001", "http://[::1]:3001"),
        ("http://[2001:DB8:0:0:0::1]", "http://[2001:db8::1]"),
        ("http://[::FFFF:127.0.0.1]:80", "http://[::ffff:7f00:1]"),
        ("http://[::ffff:7f00:1]", "http://[::ffff:7f00:1]"),
        ("http://[64:ff9b::203.0.113.9]", "http://[64:ff9b::cb00:7109]"),
    ],
)
def test_origin(url, origin):
    """An origin has the one text that a browser writes into `Origin`."""
    assert origin == as_origin(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "null",
        "*",
        "app.example.com",
        "//app.example.com",
        "ws://app.example.com",
        "wss://app.example.com",
        "ftp://app.example.com",
        "file://",
        "https://",
        "https://:443",
        "https://app.example.com/",
        "https://app.example.com/x",
        "https://app.example.com?x",
        "https://app.example.com#x",
        "https://user@app.example.com",
        "https://app.example.com.",
        "https://app..example.com",
        "https://app.example.com:65536",
        "https://app.example.com:x",
        "https://app.example.com:80:80",
        "https://a.example, https://b.example",
        " https://app.example.com",
        "https://app.example.com\xa0",
        "https://bücher.example",
        "https://\u212aapp.example",  # a Kelvin sign, which becomes a `k`
        "http://127.1",
        "http://0x7f.0.0.1",
        "http://2130706433",
        "http://256.0.0.1",
        "http://010.0.0.1",
        "http://::1",
        "http://[::1",
        "http://[::1]x:80",
        "http://x[::1]",
        "http://[fe80::1%25eth0]",
        "http://[127.0.0.1]",
        f"http://{'a' * 64}.example",
        f"http://{'a.' * 123}examples",
    ],
)
def test_no_origin(url):
    """A text that browsers never send as the origin of an http or https page is not an origin."""
    assert as_origin(url) is None


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://auth.example.com:8443", "auth.example.com"),
        ("http://[::1]:3001", "::1"),
        ("http://127.0.0.1", "127.0.0.1"),
    ],
)
def test_host_of_an_origin(origin, host):
    """The host of an origin stands without brackets and port."""
    assert host == host_of(origin)


def test_no_host_of_an_origin():
    """A text that is not an origin has no host."""
    with pytest.raises(ValueError, match="no scheme and host"):
        host_of("auth.example.com")


@pytest.mark.parametrize(
    ("host", "named", "known"),
    [
        ("localhost", True, True),
        ("Caddy.Example.COM", True, True),
        ("a_b-c", True, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("fe80::1%eth0", False, True),
        ("127.1", False, False),
        ("example.0x7f", False, False),
        ("example.com.", False, False),
        ("bücher.example", False, False),
        ("a b", False, False),
        ("", False, False),
    ],
)
def test_host(host, named, known):
    """A host is a name of RFC 1123, or an address; a name that ends in a number is neither."""
    assert (named, known) == (is_name(host), is_host(host))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://app.example.com", "https://auth.example.com", True),
        ("https://example.com", "https://auth.example.com", True),
        ("https://app.example.com:8443", "https://app.example.com", True),
        ("http://localhost:5173", "http://localhost:3001", True),
        ("http://127.0.0.1:5173", "http://127.0.0.1:3001", True),
        ("http://[::1]:5173", "http://[::1]:3001", True),
        ("http://localhost:5173", "http://127.0.0.1:3001", False),
        ("http://app.localhost", "http://localhost", False),
        ("http://app.example.com", "https://auth.example.com", False),
        ("https://example.com", "https://example.org", False),
        ("https://badexample.com", "https://example.com", False),
        ("http://10.0.0.1", "http://11.0.0.1", False),
        ("http://127.0.0.1", "http://127.0.0.2", False),
    ],
)
def test_same_site(one, other, same):
    """Two origins are of one site by scheme and host, as far as it can be known; ports are none."""
    assert same == are_same_site(one, other) == are_same_site(other, one)
