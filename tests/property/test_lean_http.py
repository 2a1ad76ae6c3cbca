"""The exchange's lean HTTP: the same requests however the bytes are cut, and forms read as the library reads them."""

from urllib.parse import parse_qsl

from hypothesis import given
from hypothesis import strategies as st

from engine.exchange.fast_lane import form_fields
from engine.exchange.lean_http import ODD, PARTIAL, Answers, Request, read_request

MOST_BODY = 4096
targets = st.from_regex(r"/[a-z/]{1,20}(\?[a-z=&]{0,10})?", fullmatch=True)
bodies = st.binary(max_size=200)


@st.composite
def plain_requests(draw: st.DrawFn) -> tuple[bytes, str, bytes]:
    target, body = draw(targets), draw(bodies)
    method = draw(st.sampled_from([b"POST", b"PUT", b"DELETE", b"GET"]))
    name = draw(st.sampled_from([b"Content-Length", b"content-length"]))
    head = b"%s %s HTTP/1.1\r\nHost: kite:80\r\nAuthorization: token a:b\r\n" % (method, target.encode())
    if body or draw(st.booleans()):
        head += b"%s: %d\r\n" % (name, len(body))
    return head + b"\r\n" + body, target, body


@given(st.lists(plain_requests(), min_size=1, max_size=4), st.data())
def test_requests_in_one_buffer_are_read_in_turn_and_a_cut_one_waits(wanted, data) -> None:
    buffer = b"".join(octets for octets, _, _ in wanted)
    cut = data.draw(st.integers(0, len(buffer)))
    at, found = 0, []
    while isinstance(request := read_request(buffer[:cut], at, MOST_BODY), Request):
        found.append((f"{request.path}?{request.query}".rstrip("?"), request.body))
        at = request.end
    assert request is PARTIAL
    ends = [sum(len(octets) for octets, _, _ in wanted[: n + 1]) for n in range(len(wanted))]
    assert found == [
        (target.rstrip("?"), body) for (_, target, body), end in zip(wanted, ends, strict=True) if end <= cut
    ]


@given(st.binary(max_size=300), plain_requests())
def test_any_bytes_are_a_request_or_not_yet_or_not_for_this_reader(noise, wanted) -> None:
    octets = wanted[0]
    for buffer in (noise, noise + octets, octets[: len(noise)] + noise):
        request = read_request(buffer, 0, MOST_BODY)
        if isinstance(request, Request):
            assert request.end <= len(buffer)
            assert request.body == buffer[request.end - len(request.body) : request.end]
        else:
            assert request in (PARTIAL, ODD)


@given(
    plain_requests(),
    st.sampled_from(
        [
            b"TE: x",
            b"Transfer-Encoding: chunked",
            b"Upgrade: websocket",
            b"Host: b",
            b"Connection: close",
            b"Expect: 100-continue",
            b"Content-Length: 0",
            b"X: \xe4",
            b"Authorization: token c:d",
        ]
    ),
)
def test_a_header_that_changes_the_meaning_makes_it_another_ones_request(wanted, header) -> None:
    octets = wanted[0].replace(b"Host: kite:80", b"Host: kite:80\r\nContent-Length: 0\r\n" + header, 1)
    assert read_request(octets, 0, MOST_BODY) is ODD


def test_a_head_or_a_body_over_the_bound_is_not_waited_for() -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
    assert read_request(head % MOST_BODY, 0, MOST_BODY) is PARTIAL
    assert read_request(head % (MOST_BODY + 1), 0, MOST_BODY) is ODD
    assert read_request(b"GET /" + b"a" * 20_000, 0, MOST_BODY) is ODD


@given(
    st.one_of(st.text("ab=&%+äé;0"), st.text(), st.from_regex(r"([a-z_]{1,9}=[A-Z0-9.]{0,9}&?){0,12}", fullmatch=True))
)
def test_form_is_read_as_parse_qsl_reads_it(text) -> None:
    encoded = text.encode("utf-8", "surrogatepass")
    try:
        wanted = dict(parse_qsl(encoded.decode(), keep_blank_values=True, max_num_fields=100))
    except ValueError:
        assert form_fields(encoded) is None
    else:
        assert form_fields(encoded) == wanted


def test_a_form_of_too_many_fields_is_left_to_the_routes() -> None:
    assert form_fields(b"a=1&" * 99 + b"b=2") == {"a": "1", "b": "2"}
    assert form_fields(b"a=1&" * 100 + b"b=2") is None


def test_date_follows_the_clock_second_by_second() -> None:
    seconds = iter([0.0, 0.9, 1.0])
    answers = Answers(lambda: next(seconds))
    dates = [b"".join(answers.json(200, b"{", b"}")).partition(b"date: ")[2][:29] for _ in range(3)]
    assert dates == [b"Thu, 01 Jan 1970 00:00:00 GMT"] * 2 + [b"Thu, 01 Jan 1970 00:00:01 GMT"]
