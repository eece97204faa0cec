"""The page without a browser: who may see what, what is escaped, and what a change needs."""

from __future__ import annotations

import html
import time

import httpx2
import pytest
from PIL import Image
from serve_doubles import COPIED, ITEM, ORDINARY, RunningServer

SCRIPT = "<script>alert('hello')</script>"
ALL_PAGES = ("generate", "library", "incidents", "calibration", "health")


def picture_of(visit, prompt, seed="0"):
    """The page of a finished request."""
    answer = visit.post("/generate", {"prompt": prompt, "seed": seed})
    assert answer.status_code == 200, answer.text
    for _ in range(600):
        page = visit.get(answer.url.path)
        if 'id="poll"' not in page.text:
            return page
        time.sleep(0.05)
    raise AssertionError("the request did not end")


@pytest.fixture
def incident(served):
    """The id of a new incident."""
    answer = served.client().images.generate(prompt=COPIED, extra_body={"seed": 0})
    return answer.data[0].steerclear["report_id"]


# ── logging in ──────────────────────────────────────────────────────────────────────────────────────────────


def test_nobody_sees_a_page_without_a_key(visit):
    stranger = visit(None)
    for name in ALL_PAGES:
        answer = stranger.get(f"/{name}")
        assert answer.url.path == "/login", name
    assert stranger.http.get(f"/library/items/{ITEM}/thumbnail", follow_redirects=False).status_code == 303
    assert stranger.http.post("/login", data={"key": "sck_nobody_nothing"}).status_code == 401
    assert stranger.get("/health").url.path == "/login"


def test_a_login_leads_back_to_the_page_that_was_asked_for_and_nowhere_else(served, visit):
    stranger = visit(None)
    for wanted, reached in (
        ("/incidents?state=decided", "/incidents"),
        ("//elsewhere.example", "/generate"),
        ("https://elsewhere.example/library", "/generate"),
        ("/libraryelse", "/generate"),
    ):
        answer = stranger.http.post("/login", data={"key": served.keys.everything, "next": wanted})
        assert (answer.url.host, answer.url.path) == ("127.0.0.1", reached), wanted


def test_the_cookie_is_for_this_site_alone_and_does_not_hold_the_key(served, visit):
    cookie = visit("review").login.history[0].headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert served.keys.review not in cookie
    assert served.keys.review.split("_")[1] not in cookie


def test_logging_out_ends_the_session_and_not_only_the_cookie(visit):
    person = visit("review")
    kept = dict(person.http.cookies)
    person.post("/logout")
    person.http.cookies.update(kept)
    assert person.get("/health").url.path == "/login"


def test_a_revoked_key_ends_its_sessions(served, visit):
    key, secret = served.records.keys.add("for a day", ("review",))
    person = visit(None)
    assert person.http.post("/login", data={"key": secret}).url.path == "/library"
    served.records.keys.revoke(key.id)
    assert person.get("/library").url.path == "/login"


# ── scopes ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("scope", "seen"),
    [
        ("generate", {"generate", "health"}),
        ("review", {"library", "incidents", "calibration", "health"}),
        ("admin", {"library", "calibration", "health"}),
    ],
)
def test_each_scope_sees_its_pages_and_no_others(visit, scope, seen):
    person = visit(scope)
    offered = person.get("/health").text
    for name in ALL_PAGES:
        assert person.get(f"/{name}").status_code == (200 if name in seen else 403), name
        assert (f'<a href="/{name}"' in offered) == (name in seen), name


def test_protected_pictures_are_for_reviewers_alone(visit, incident):
    assert visit("review").get(f"/library/items/{ITEM}/thumbnail").content.startswith(b"\x89PNG")
    for scope in ("generate", "admin"):
        person = visit(scope)
        assert person.get(f"/library/items/{ITEM}/thumbnail").status_code == 403
        assert person.get(f"/incidents/{incident}").status_code == 403
        assert person.get(f"/incidents/{incident}/picture").status_code == 403
    assert "thumbnail" not in visit("admin").get("/library").text


def test_what_needs_a_scope_is_refused_even_with_a_token(visit, incident, protected):
    person = visit("generate")
    for path in (
        *("/library", "/library/search", f"/library/items/{ITEM}", f"/library/items/{ITEM}/remove"),
        *("/incidents/claim", f"/incidents/{incident}/decide/copy", f"/incidents/{incident}/negative"),
        "/health/verify",
    ):
        assert person.post(path).status_code == 403, path
    reviewer = visit("review")
    for path in ("/library", f"/library/items/{ITEM}", f"/library/items/{ITEM}/remove", "/generate"):
        assert reviewer.post(path).status_code == 403, path


def test_who_may_not_review_learns_nothing_of_what_was_matched(visit):
    seen = picture_of(visit("generate"), COPIED).text
    assert "steered" in seen
    for word in (ITEM, "resample", "img-comparison-slider aria", "/incidents/"):
        assert word not in seen, word
    seen = picture_of(visit("everything"), COPIED).text
    assert ITEM in seen
    assert "resample" in seen
    assert "/incidents/inc-" in seen


# ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_change_needs_the_token_of_the_session(visit, incident):
    person, other = visit("everything"), visit("everything")
    paths = (
        *("/generate", "/library", "/library/search", f"/library/items/{ITEM}"),
        *(f"/library/items/{ITEM}/remove", "/incidents/claim", f"/incidents/{incident}/take"),
        *(f"/incidents/{incident}/next", f"/incidents/{incident}/decide/no_copy"),
        *(f"/incidents/{incident}/negative", "/health/verify", "/logout"),
    )
    for path in paths:
        assert person.http.post(path, data={"prompt": ORDINARY}).status_code == 403, path
        assert person.http.post(path, data={"csrf": other.token}).status_code == 403, path
    assert person.get("/health").url.path == "/health"


def test_a_form_of_another_site_is_refused(served, visit):
    person = visit("review")
    for headers in ({"origin": "https://elsewhere.example"}, {"sec-fetch-site": "cross-site"}):
        assert person.post("/incidents/claim", headers=headers).status_code == 403
        login = {"key": served.keys.review}
        assert visit(None).http.post("/login", data=login, headers=headers).status_code == 403


# ── what is shown ───────────────────────────────────────────────────────────────────────────────────────────


def test_every_answer_forbids_scripts_from_elsewhere_and_frames(visit):
    person = visit("everything")
    for path in (*(f"/{name}" for name in ALL_PAGES), "/login", "/static/page.js", "/incidents/none"):
        headers = person.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy, path
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    assert person.get("/library").headers["cache-control"] == "no-store"


def test_no_page_holds_an_inline_script_or_style_or_names_another_host(visit, incident):
    person = visit("everything")
    for path in (*(f"/{name}" for name in ALL_PAGES), f"/incidents/{incident}", f"/library/items/{ITEM}"):
        text = person.get(path).text
        for forbidden in ("<style", " style=", "javascript:", "onclick", "<script>", "http://", "https://"):
            assert forbidden not in text, (path, forbidden)


def test_prompts_and_notes_are_shown_and_never_run(served, visit):
    person = visit("everything")
    page = picture_of(person, f"{SCRIPT} and a bear").text
    assert SCRIPT not in page
    assert html.escape(SCRIPT, quote=False).replace("'", "&#39;") in page
    note = f'"><img src=x onerror=alert(1)>{SCRIPT}'
    changed = person.post(f"/library/items/{ITEM}", {"note": note, "policy": "steer"})
    assert SCRIPT not in changed.text
    assert "<img src=x" not in changed.text
    with served.http(served.keys.review) as client:
        assert client.get(f"/v1/library/{ITEM}").json()["note"] == note
    person.post(f"/library/items/{ITEM}", {"note": "the mascot"})
    assert SCRIPT not in person.get(f"/library?q={SCRIPT}").text
    assert SCRIPT not in person.get(f"/generate?prompt={SCRIPT}").text


def test_an_address_that_leads_nowhere_is_a_page(visit):
    person = visit("everything")
    for path in ("/incidents/inc-none", "/library/items/nobody", "/generate/req-none", "/library?start=x"):
        answer = person.get(path)
        assert answer.status_code in (400, 404), path
        assert answer.headers["content-type"].startswith("text/html")
        assert 'role="alert"' in answer.text


# ── generate ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_clear_picture_is_shown_and_can_be_saved(visit):
    person = visit("generate")
    page = picture_of(person, ORDINARY)
    assert '<span class="tag clear">clear</span>' in page.text
    assert person.get(f"{page.url.path}/0.png").content.startswith(b"\x89PNG")
    assert person.get(f"{page.url.path}/1.png").status_code == 404
    assert visit("everything").get(f"{page.url.path}/0.png").status_code == 404  # another key's


def test_a_wrong_field_is_named_beside_it_and_the_others_stay(visit):
    answer = visit("generate").post("/generate", {"prompt": ORDINARY, "size": "large", "seed": "7"})
    assert answer.status_code == 400
    assert "WIDTHxHEIGHT" in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert ORDINARY in answer.text
    assert 'value="7"' in answer.text


def test_a_running_request_can_be_cancelled(visit):
    person = visit("generate")
    began = person.post("/generate", {"prompt": ORDINARY, "num_inference_steps": "900"})
    ended = person.post(f"{began.url.path}/cancel")
    assert "the request was ended" in ended.text
    assert 'id="poll"' not in ended.text


# ── library ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_pictures_are_added_found_described_and_removed_with_a_question(visit, tmp_path):
    person = visit("everything")
    file = tmp_path / "heron.png"
    Image.effect_noise((64, 64), 90).convert("RGB").save(file)
    upload = {"image": (file.name, file.read_bytes(), "image/png")}
    added = person.post(
        "/library", {"owner": "Beta", "tags": "bird, grey", "policy": "withhold"}, files=upload
    )
    assert "added: heron" in added.text
    assert "heron" in person.get("/library?q=beta+BIRD").text
    assert "heron" not in person.get("/library?q=beta+lion").text
    upload = {"image": (file.name, file.read_bytes(), "image/png")}
    seen = person.post("/library/search", files=upload).text
    assert seen.index("heron") < seen.index(ITEM)
    path = "/library/items/heron"
    person.post(path, {"note": "by the water", "policy": "steer", "tags": "bird"})
    assert "by the water" in person.get(path).text
    assert "Remove heron?" in person.get(f"{path}/remove").text
    assert person.get(path).status_code == 200
    assert "removed: heron" in person.post(f"{path}/remove").text
    assert person.get(path).status_code == 404


def test_what_is_no_picture_is_named(visit, tmp_path):
    person = visit("everything")
    answer = person.post("/library", files={"image": ("notes.png", b"no picture", "image/png")})
    assert "not added: notes.png" in answer.text
    assert person.post("/library").status_code == 400
    assert person.post("/library/search", files={"image": ("x.png", b"no", "image/png")}).status_code == 400


# ── incidents ───────────────────────────────────────────────────────────────────────────────────────────────


def decide_all(reviewer):
    """Review until nothing is left."""
    page = reviewer.post("/incidents/claim")
    while page.url.path != "/incidents":
        page = reviewer.post(f"{page.url.path}/decide/copy")
    return page


def new_incident(served, seed=0):
    answer = served.client().images.generate(prompt=COPIED, extra_body={"seed": seed})
    return answer.data[0].steerclear["report_id"]


def test_the_queue_gives_the_oldest_first_and_never_one_to_two_reviewers(served, visit):
    reviewer, other = visit("review"), visit("everything")
    decide_all(reviewer)
    first, second = new_incident(served), new_incident(served)
    assert reviewer.post("/incidents/claim").url.path == f"/incidents/{first}"
    assert other.post("/incidents/claim").url.path == f"/incidents/{second}"
    assert "Somebody else is reviewing it now" in other.get(f"/incidents/{first}").text
    for path in (f"{first}/take", f"{first}/decide/no_copy"):
        assert other.post(f"/incidents/{path}").status_code == 409, path
    # the other one's is passed over, in both directions
    assert reviewer.post(f"/incidents/{first}/next").url.path == "/incidents"
    reviewer.post(f"/incidents/{first}/take")
    assert other.post(f"/incidents/{second}/previous").url.path != f"/incidents/{first}"
    other.post(f"/incidents/{second}/take")
    decide_all(other)
    decide_all(reviewer)


def test_next_and_previous_walk_through_the_queue_and_give_back_what_was_claimed(served, visit):
    reviewer = visit("review")
    decide_all(reviewer)
    first, second = new_incident(served), new_incident(served)
    reviewer.post("/incidents/claim")
    assert reviewer.post(f"/incidents/{first}/next").url.path == f"/incidents/{second}"
    assert served.records.incidents.get(first).state == "open"
    assert served.records.incidents.get(second).state == "claimed"
    assert reviewer.post(f"/incidents/{second}/previous").url.path == f"/incidents/{first}"
    assert served.records.incidents.get(second).state == "open"
    decide_all(reviewer)


def test_a_decision_leads_to_the_next_one_and_can_be_revised(served, visit):
    reviewer = visit("review")
    decide_all(reviewer)
    first, second = new_incident(served), new_incident(served)
    reviewer.post("/incidents/claim")
    after = reviewer.post(f"/incidents/{first}/decide/no_copy", {"note": SCRIPT})
    assert after.url.path == f"/incidents/{second}"
    seen = reviewer.get(f"/incidents/{first}").text
    assert "No copy" in seen
    assert SCRIPT not in seen
    assert reviewer.post(f"/incidents/{first}/decide/copy").status_code == 409
    reviewer.post(f"/incidents/{first}/decide/copy", {"revise": "yes", "note": "on second thoughts"})
    decided = served.records.incidents.get(first).decided
    assert (decided.decision, decided.note) == ("copy", "on second thoughts")
    decide_all(reviewer)


def test_an_incident_shows_the_match_and_says_that_no_picture_is_kept(visit, incident):
    reviewer = visit("review")
    seen = reviewer.get(f"/incidents/{incident}").text
    assert f"/library/items/{ITEM}/thumbnail" in seen
    assert "No picture is kept" in seen
    assert reviewer.get(f"/incidents/{incident}/picture").status_code == 404
    assert incident in reviewer.get(f"/incidents?state=&item={ITEM}").text


# ── calibration and health ──────────────────────────────────────────────────────────────────────────────────


def test_another_threshold_counts_what_it_would_have_flagged(served, visit):
    reviewer = visit("review")
    decide_all(reviewer)
    confirmed = sum(row.decided.decision == "copy" for row in served.records.incidents.list(limit=1000))
    below = reviewer.get("/calibration/nearest?nearest=0.999999").text
    assert f"{confirmed} of {confirmed}" in below
    assert reviewer.get("/calibration/nobody").status_code == 404
    assert reviewer.get("/calibration/nearest?nearest=nonsense").status_code == 200


def test_health_says_what_works_and_whether_the_records_are_whole(visit):
    person = visit("review")
    seen = person.get("/health").text
    assert "ready" in seen
    assert "diffusers" in seen
    assert "The records are whole" in person.post("/health/verify").text


# ── every page of every scope ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scope", ["generate", "review", "admin", "everything"])
def test_the_first_page_after_a_login_and_all_that_it_leads_to_load(visit, scope):
    person = visit(scope)
    assert person.login.status_code == 200, person.login.text
    seen = [name for name in ALL_PAGES if f'href="/{name}"' in person.login.text]
    assert seen
    for name in seen:
        assert person.get(f"/{name}").status_code == 200, name


def test_every_page_loads_on_a_server_without_keys(options, tmp_path):
    database = ("--database", tmp_path / "records.db")
    server = RunningServer(tmp_path / "server.log", *options, *database, "--insecure")
    try:
        with httpx2.Client(base_url=server.url, timeout=60, follow_redirects=True, verify=False) as person:
            for path in ("", *ALL_PAGES):
                answer = person.get(f"/{path}")
                assert answer.status_code == 200, (path, answer.text)
                assert f"/{path or 'generate'}" == answer.url.path
            for headers in ({"host": "["}, {"host": "]:1"}, {"origin": "http://["}, {"origin": "//"}):
                answer = person.get("/v1/library", headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_local"), headers
    finally:
        server.stop()
