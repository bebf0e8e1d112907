"""Settings are read once, checked together, and never show a secret."""

import base64
import re
import sqlite3
from dataclasses import FrozenInstanceError
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from recoup.config import (
    CA_VARIABLES,
    DEFAULT_DATABASE_URL,
    SETTINGS,
    Config,
    ConfigError,
    find_warnings,
    read_environment,
)
from tests.sockets import make_certificate

ROOT = Path(__file__).resolve().parent.parent
REQUIRED = {"TRIGGER_SECRET_KEY": "tr_dev_hidden", "PRIVY_PROJECT_SECRET": "privy-hidden"}
KEY = ec.generate_private_key(ec.SECP256R1())


def pem(private_key):
    public = private_key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def load(**settings):
    return Config.load({**REQUIRED, **settings})


def problems(environ):
    """Return what is wrong with an environment, and see that no value of it is told."""
    with pytest.raises(ConfigError) as caught:
        Config.load(environ)
    assert "hidden" not in caught.value.message
    return caught.value.problems


def refused(**settings):
    """Return the names of the settings that are found wrong, and the message."""
    with pytest.raises(ConfigError) as caught:
        load(**settings)
    return set(caught.value.problems), caught.value.message


def test_two_secrets_are_all_that_must_be_set():
    """Everything else has its documented default."""
    config = load()
    assert config.trigger_secret_key == "tr_dev_hidden"
    assert config.privy_project_secret == "privy-hidden"
    assert config.database_url == DEFAULT_DATABASE_URL == "sqlite:///instance/recoup.sqlite3"
    assert config.database_pool_size == 5
    assert config.database_prepare == "auto"
    assert config.trigger_environment is None
    assert config.trigger_api_url == "https://api.trigger.dev"
    assert config.trigger_deadline_seconds == 8.0
    assert config.trigger_proxy_url is None
    assert config.trigger_preview_branch is None
    assert config.trigger_trust_missing is False
    assert config.privy_app_id is None
    assert config.privy_jwt_verification_key is None
    assert config.privy_api_url == "https://api.privy.io"
    assert config.recoup_org_id is None
    assert (config.web_concurrency, config.web_threads) == (2, 64)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("DATABASE_URL", "sqlite:////var/lib/recoup.db", "sqlite:////var/lib/recoup.db"),
        ("DATABASE_POOL_SIZE", "3", 3),
        ("DATABASE_PREPARE", "off", "off"),
        ("TRIGGER_SECRET_KEY", "tr_prod_x", "tr_prod_x"),
        ("TRIGGER_ENVIRONMENT", "staging", "staging"),
        ("TRIGGER_API_URL", "http://trigger:3030", "http://trigger:3030"),
        ("TRIGGER_DEADLINE_SECONDS", "2.5", 2.5),
        ("TRIGGER_PROXY_URL", "http://user:word@proxy:3128", "http://user:word@proxy:3128"),
        ("TRIGGER_PREVIEW_BRANCH", "feature/x-1", "feature/x-1"),
        ("TRIGGER_TRUST_MISSING", "true", True),
        ("TRIGGER_TRUST_MISSING", "1", True),
        ("TRIGGER_TRUST_MISSING", "YES", True),
        ("TRIGGER_TRUST_MISSING", "false", False),
        ("TRIGGER_TRUST_MISSING", "0", False),
        ("TRIGGER_TRUST_MISSING", "no", False),
        ("PRIVY_PROJECT_SECRET", "s", "s"),
        ("PRIVY_API_URL", "http://127.0.0.1:9", "http://127.0.0.1:9"),
        ("RECOUP_ORG_ID", "4D3B7A5E-0000-4000-8000-00000000000A", UUID(int=0)),
        ("HOST", "10.0.0.1", "10.0.0.1"),
        ("HOST", "::1", "::1"),
        ("HOST", "recoup.internal", "recoup.internal"),
        ("WEB_CONCURRENCY", "1", 1),
        ("WEB_THREADS", "2", 2),
    ],
)
def test_each_variable_is_read(name, text, value):
    """A variable that is set ends up under its name in lower case, as its own type."""
    read = getattr(load(**{name: text}), name.lower())
    assert read == (UUID(text) if isinstance(value, UUID) else value)
    assert type(read) is type(value)


@pytest.mark.parametrize("name", ["DATABASE_URL", "WEB_THREADS", "PRIVY_APP_ID", "RECOUP_ORG_ID"])
def test_an_empty_variable_counts_as_unset(name):
    """A deployment that passes each variable on, set or not, gets the defaults."""
    assert getattr(load(**{name: ""}), name.lower()) == getattr(load(), name.lower())


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_an_empty_secret_is_a_missing_one(name):
    """An empty secret would let anyone in, or nothing out."""
    assert problems({**REQUIRED, name: ""}) == {name: ["is required."]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DATABASE_POOL_SIZE", "0"),
        ("DATABASE_POOL_SIZE", "many"),
        ("DATABASE_POOL_SIZE", "1.5"),
        ("DATABASE_PREPARE", "hidden"),
        ("TRIGGER_SECRET_KEY", "hidden with spaces"),
        ("TRIGGER_SECRET_KEY", "hidden\n"),
        ("TRIGGER_ENVIRONMENT", "hidden"),
        ("TRIGGER_API_URL", "trigger:3030"),
        ("TRIGGER_API_URL", "ftp://trigger"),
        ("TRIGGER_API_URL", "http://trigger/#fragment"),
        ("TRIGGER_API_URL", "http://trigger/?query"),
        ("TRIGGER_API_URL", "http://hidden:hidden@trigger"),
        ("TRIGGER_API_URL", "http://trigger:99999"),
        ("TRIGGER_DEADLINE_SECONDS", "0"),
        ("TRIGGER_DEADLINE_SECONDS", "61"),
        ("TRIGGER_DEADLINE_SECONDS", "nan"),
        ("TRIGGER_DEADLINE_SECONDS", "soon"),
        ("TRIGGER_PROXY_URL", "hidden"),
        ("TRIGGER_PROXY_URL", "http://hidden:12#hidden@proxy"),
        ("TRIGGER_PROXY_URL", "http://hidden:12/hidden@proxy"),
        ("TRIGGER_PROXY_URL", "http://hidden:12?hidden@proxy"),
        ("TRIGGER_PROXY_URL", "http://hidden:hi#dden@proxy"),
        ("REQUESTS_CA_BUNDLE", "/nowhere/hidden"),
        ("CURL_CA_BUNDLE", "/nowhere/hidden"),
        ("SSL_CERT_FILE", "/nowhere/hidden"),
        ("SSL_CERT_FILE", "/dev/null"),
        ("SSL_CERT_FILE", str(ROOT / "README.md")),
        ("TRIGGER_PREVIEW_BRANCH", "hidden branch"),
        ("TRIGGER_TRUST_MISSING", "hidden"),
        ("PRIVY_PROJECT_SECRET", "hiddén"),
        ("PRIVY_API_URL", "hidden"),
        ("RECOUP_ORG_ID", "hidden"),
        ("HOST", "hidden:80"),
        ("HOST", "[::1]"),
        ("HOST", "::hidden"),
        ("HOST", "http://hidden"),
        ("HOST", "fe80::1%eth0"),
        ("WEB_CONCURRENCY", "0"),
        ("WEB_THREADS", "1"),
        ("WEB_THREADS", "9" * 5000),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(name, text):
    """Better not to start than to start with something else than was meant."""
    assert list(problems({**REQUIRED, name: text})) == [name]


def test_all_problems_are_named_at_once():
    """Whoever deploys fixes them in one go; no line tells a value."""
    environ = {"DATABASE_URL": "mysql://hidden", "WEB_THREADS": "x", "TRIGGER_API_URL": "hidden"}
    with pytest.raises(ConfigError) as caught:
        Config.load({**environ, "PRIVY_APP_ID": "hidden"})
    names = [*environ, *REQUIRED, "PRIVY_JWT_VERIFICATION_KEY"]
    head, *lines = caught.value.message.splitlines()
    assert set(caught.value.problems) == set(names)
    assert head == "the configuration is not usable:"
    assert [line.split(":")[0].strip() for line in lines] == sorted(names)
    assert "hidden" not in caught.value.message


def test_unknown_variables_are_ignored():
    """The environment holds much that isn't ours."""
    assert load(HOME="/root", TRIGGER_SECRET="x") == load()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("TRIGGER_SECRET", "TRIGGER_SECRET is not a setting of this service; is {} meant?"),
        ("TRIGER_SECRET_KEY", "TRIGER_SECRET_KEY is not a setting of this service; is {} meant?"),
        ("trigger_secret_key", "trigger_secret_key is not a setting of this service; is {} meant?"),
        ("TRIGGER_PROJECT_ID", "TRIGGER_PROJECT_ID is not a setting of this service."),
        ("RECOUP_X", "RECOUP_X is not a setting of this service."),
        ("PRIVY_X", "PRIVY_X is not a setting of this service."),
        ("DATABASE_FOLDERS", "DATABASE_FOLDERS is not a setting of this service."),
        ("WEB_X", "WEB_X is not a setting of this service."),
    ],
)
def test_a_name_that_looks_like_a_setting_and_is_none(name, sentence):
    """It is named, as it may be misspelt; it is no problem, as it may be another program's."""
    environ = {**REQUIRED, name: "hidden"}
    assert find_warnings(environ) == [sentence.format("TRIGGER_SECRET_KEY")]
    assert Config.load(environ) == load()


@pytest.mark.parametrize(
    "name",
    [
        *SETTINGS,
        "SUPABASE_URL",
        "SUPABASE_KEY",
        "RECOUP_TEST_PGBIN",
        "RECOUP_REQUIRE_CHROMIUM",
        "NIX_SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HOSTNAME",
        "GHOST",
        "PORTS",
        "HTTP_PROXY",
    ],
)
def test_other_names_are_not_doubted(name):
    """Settings, names that are little like one, and the test suite's own."""
    assert find_warnings({name: "x"}) == []


def test_an_empty_variable_is_not_doubted():
    """It counts as unset."""
    assert find_warnings({"TRIGER_SECRET_KEY": ""}) == []


def test_a_missing_setting_is_told_with_the_name_that_may_be_meant_for_it():
    """The name of the missing setting leads to the misspelt one."""
    environ = {"TRIGER_SECRET_KEY": "hidden", "PRIVY_PROJECT_SECRET": "hidden"}
    assert problems(environ) == {
        "TRIGGER_SECRET_KEY": ["is required.", "TRIGER_SECRET_KEY is set: is it meant for this?"]
    }


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize("name", sorted({*SETTINGS} - {"PRIVY_JWT_VERIFICATION_KEY"}))
def test_a_value_in_quotes_is_refused(name, quote):
    """As `docker --env-file` leaves them, and each key would be a 401."""
    text = "is in quotes: remove them (`docker --env-file` keeps them)."
    assert problems({**REQUIRED, name: f"{quote}hidden{quote}"})[name] == [text]


@pytest.mark.parametrize("value", ["hidden ", " hidden", "hidden\n", "hidden\r", "\thidden"])
@pytest.mark.parametrize("name", ["PRIVY_PROJECT_SECRET", "DATABASE_URL", "WEB_THREADS"])
def test_blanks_at_an_end_are_refused(name, value):
    """Nobody sees them, so nobody means them."""
    text = "has spaces at an end: remove them."
    assert problems({**REQUIRED, name: value}) == {name: [text]}


@pytest.mark.parametrize("value", ["hid'den", "'hidden", "hidden'", "'"])
def test_a_quote_may_be_part_of_a_secret(value):
    """It is around the value only if it is at both ends."""
    assert load(PRIVY_PROJECT_SECRET=value).privy_project_secret == value


@pytest.mark.parametrize("name", ["SUPABASE_URL", "SUPABASE_KEY"])
def test_supabase_without_the_databases_address_is_refused(name):
    """The environment of the host as it is; an empty SQLite would be served in silence."""
    [(setting, [text])] = problems({**REQUIRED, name: "hidden"}).items()
    assert setting == "DATABASE_URL"
    assert text.startswith(f"is required when {name} is set: ")
    assert problems({**REQUIRED, name: "hidden", "DATABASE_URL": ""}).keys() == {"DATABASE_URL"}


def test_supabase_with_a_databases_address_is_served():
    """Of any kind: a file that is named is no accident."""
    for url in ("sqlite:///x.db", "postgresql://u@h/x"):
        assert load(SUPABASE_URL="https://x", DATABASE_URL=url).database_url == url


@pytest.mark.parametrize("url", ["sqlite:///a.db", "sqlite:////a/b.db", "sqlite:///a b/c#d.db"])
def test_a_sqlite_url_names_a_file(url):
    """Three slashes make it relative, four absolute."""
    assert load(DATABASE_URL=url).database_url == url


def test_a_sqlite_that_is_too_old_is_refused(monkeypatch):
    """At the start, with what else is wrong, and not at the first deletion."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 23, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.23.1")
    for url in ("sqlite:///a.db", None):
        names, message = refused(DATABASE_URL=url, WEB_THREADS="x")
        assert names == {"DATABASE_URL", "WEB_THREADS"}
        assert "DATABASE_URL: needs SQLite 3.24 or newer; this is 3.23.1." in message
    assert load(DATABASE_URL="postgresql://u@h/x")
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 24, 0))
    assert load(DATABASE_URL="sqlite:///a.db")


@pytest.mark.parametrize(
    "url",
    [
        "postgres://u:hidden@db.example.com:6543/postgres",
        "postgresql://u:hidden@db.example.com/postgres?sslmode=require",
        "postgresql://u:hid%40den@db.example.com/postgres",
        "postgresql://u:hid#den@db/postgres",
        "postgresql://u@/x?host=/run/postgresql&port=5433",
        "postgresql://u:hidden@[::1]:5432/x",
        "postgresql://u:hidden@a:1,b:2/x",
    ],
)
def test_a_postgres_url_is_what_libpq_takes(url):
    """Both names of the scheme, several hosts, sockets, and encoded passwords."""
    assert load(DATABASE_URL=url).database_url == url


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hidden@h/db",
        "sqlite://",
        "sqlite:///",
        "sqlite://hidden",
        "sqlite:///:memory:",
        "/var/lib/hidden.db",
        "postgresql:hidden",
        "postgresql://u:hid%den@h/db",
        "postgresql://u:hid/den@h/db",
        "postgresql://u:hid@den@h/db",
        "postgresql://u:hidden@[::1/db",
        "postgresql://u:hidden@h:port/db",
        "postgresql://u:hidden@h/db?hidden=1",
        "postgresql://u:hidden@h/db/hidden",
        "postgresql://u:hidden@h/db#hidden",
        "postgresql://u:12/hidden@h/db",
    ],
)
def test_another_database_url_is_refused(url):
    """Also those of which libpq would quote the password when it fails to connect."""
    names, message = refused(DATABASE_URL=url)
    assert names == {"DATABASE_URL"}
    assert "hid" not in message


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("postgresql://u:p/w@h/db", "percent-encode special characters in a password"),
        ("postgresql://u:1/w@h/db", "percent-encode special characters in a password"),
        ("postgresql://u:p@w@h/db", "percent-encode special characters in a password"),
        ("postgresql://u@h/db/more", "must have only the database's name after the host"),
        ("postgresql://u@h/db#more", "must have only the database's name after the host"),
        ("postgresql://u@h/db?pgbouncer=true", "an option after ? that Postgres doesn't know"),
    ],
)
def test_a_postgres_url_is_refused_with_what_to_do(url, advice):
    """A password that is cut off at its `/`, and addresses for other drivers."""
    assert advice in refused(DATABASE_URL=url)[1]


@pytest.mark.parametrize(
    "encode",
    [
        str,
        lambda text: text.replace("\n", "\\n"),
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: f"  {text}  ",
        lambda text: base64.encodebytes(text.encode()).decode(),
        lambda text: base64.encodebytes(text.encode()).decode().replace("\n", "\\n"),
        lambda text: f'"{base64.b64encode(text.encode()).decode()}"',
        lambda text: f"'{text}'",
    ],
    ids=[
        "PEM",
        "PEM with literal newlines",
        "base64 of PEM",
        "PEM among spaces",
        "base64 in lines",
        "base64 in lines with literal newlines",
        "base64 in quotes",
        "PEM in quotes",
    ],
)
def test_the_verification_key_is_taken_in_each_form(encode):
    """As Privy shows it, as an env file holds it, and as the host's deployment has it."""
    config = load(PRIVY_APP_ID="app", PRIVY_JWT_VERIFICATION_KEY=encode(pem(KEY)))
    assert config.privy_jwt_verification_key == KEY.public_key()


WRONG_KEYS = {
    "RSA": pem(rsa.generate_private_key(65537, 2048)),
    "P-384": pem(ec.generate_private_key(ec.SECP384R1())),
    "secp256k1": pem(ec.generate_private_key(ec.SECP256K1())),
    "Ed25519": pem(ed25519.Ed25519PrivateKey.generate()),
    "DSA": pem(dsa.generate_private_key(1024)),
    "private": KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    "text": "garbage",
    "not ASCII": "gärbage",
    "junk in PEM": "-----BEGIN PUBLIC KEY-----\ngarbage\n-----END PUBLIC KEY-----",
    "base64 of junk": base64.b64encode(b"garbage").decode(),
    "cut off": pem(KEY)[:90],
}


@pytest.mark.parametrize("text", WRONG_KEYS.values(), ids=WRONG_KEYS)
def test_another_kind_of_key_is_refused(text):
    """Privy signs with ES256; with any other key each token would be refused at run time."""
    names, message = refused(PRIVY_APP_ID="app", PRIVY_JWT_VERIFICATION_KEY=text)
    assert names == {"PRIVY_JWT_VERIFICATION_KEY"}
    assert text not in message


def test_a_key_of_preview_comes_with_its_branch():
    """Trigger.dev answers no call with such a key and without the branch."""
    key = {"TRIGGER_SECRET_KEY": "tr_preview_hidden"}
    names, message = refused(**key)
    assert names == {"TRIGGER_PREVIEW_BRANCH"}
    assert "tr_preview_…" in message
    assert load(**key, TRIGGER_PREVIEW_BRANCH="main").trigger_preview_branch == "main"


def test_privys_two_settings_come_together():
    """One without the other would refuse every token."""
    assert refused(PRIVY_APP_ID="app")[0] == {"PRIVY_JWT_VERIFICATION_KEY"}
    assert refused(PRIVY_JWT_VERIFICATION_KEY=pem(KEY))[0] == {"PRIVY_APP_ID"}


def test_a_wrong_partner_is_named_once():
    """A key that is there but wrong isn't called missing as well."""
    names, message = refused(PRIVY_APP_ID="app", PRIVY_JWT_VERIFICATION_KEY="x")
    assert names == {"PRIVY_JWT_VERIFICATION_KEY"}
    assert "partner" not in message


@pytest.mark.parametrize("counts", CA_VARIABLES)
def test_the_first_file_of_certificates_counts(tmp_path, counts):
    """In the order that requests has them, and then OpenSSL's; none: the usual ones."""
    path = str(make_certificate(tmp_path))
    given = CA_VARIABLES[CA_VARIABLES.index(counts) :]
    config = load(**dict.fromkeys(given, str(tmp_path)) | {counts: path})
    assert (config.ca_variable, config.ca_bundle) == (counts, path)
    assert (load().ca_variable, load().ca_bundle) == (None, None)


def test_a_folder_of_certificates_is_taken(tmp_path):
    """requests takes one that `openssl rehash` has made."""
    assert load(REQUESTS_CA_BUNDLE=str(tmp_path)).ca_bundle == str(tmp_path)


def test_no_secret_shows_in_the_repr():
    """A configuration may end up in a log or a traceback."""
    config = load(
        DATABASE_URL="postgresql://u:hidden@h/db", TRIGGER_PROXY_URL="http://u:hidden@proxy"
    )
    assert "hidden" not in repr(config)
    assert "https://api.trigger.dev" in repr(config)


def test_the_configuration_is_frozen():
    """What was checked is what is used."""
    with pytest.raises(FrozenInstanceError):
        load().web_threads = 1


@pytest.fixture
def dotenv(tmp_path, monkeypatch):
    """A `.env` in the current folder, and no variable of ours in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in (*REQUIRED, "WEB_THREADS", "PRIVY_APP_ID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / ".env"


def test_a_dotenv_file_is_read(dotenv):
    """`.env` in the current folder serves where the environment says nothing."""
    dotenv.write_text("TRIGGER_SECRET_KEY=tr_file\nPRIVY_PROJECT_SECRET='s#1'\nWEB_THREADS=7\n")
    config = Config.load()
    assert config.trigger_secret_key == "tr_file"
    assert config.privy_project_secret == "s#1"
    assert config.web_threads == 7


@pytest.mark.parametrize("line", ["a${HOME}b", "'a${HOME}b'", '"a${HOME}b"'])
def test_a_value_of_a_dotenv_file_is_taken_as_it_stands(dotenv, line):
    """A secret may have any characters, and Docker's `--env-file` replaces nothing either."""
    dotenv.write_text(f"TRIGGER_SECRET_KEY=tr_file\nPRIVY_PROJECT_SECRET={line}\n")
    assert Config.load().privy_project_secret == "a${HOME}b"


def test_the_environment_is_above_the_dotenv_file(dotenv, monkeypatch):
    """What the deployment sets can't be undone by a file."""
    dotenv.write_text("WEB_THREADS=7\nPRIVY_APP_ID=file\n")
    monkeypatch.setenv("WEB_THREADS", "8")
    environ = read_environment()
    assert (environ["WEB_THREADS"], environ["PRIVY_APP_ID"]) == ("8", "file")


def test_only_the_current_folders_dotenv_file_is_read(dotenv, monkeypatch):
    """A file further up is somebody else's."""
    dotenv.write_text("WEB_THREADS=7\n")
    below = Path("below")
    below.mkdir()
    monkeypatch.chdir(below)
    assert "WEB_THREADS" not in read_environment()


@pytest.mark.parametrize("content", ["WEB_THREADS=7\r\nX=1\r\n", "\ufeffWEB_THREADS=7\n"])
def test_a_dotenv_file_of_another_editor_is_read(dotenv, content):
    """Lines may end as on Windows, and a byte order mark is no part of a name."""
    dotenv.write_text(content, encoding="utf-8", newline="")
    assert read_environment()["WEB_THREADS"] == "7"


def test_a_dotenv_that_cannot_be_read_is_a_problem(dotenv):
    """It is there, so something is set in it."""
    dotenv.mkdir()
    with pytest.raises(ConfigError, match=r"\.env: can't be read: .*Is a directory"):
        read_environment()


def test_a_name_without_a_value_in_the_dotenv_file_is_unset(dotenv):
    """A line of just `WEB_THREADS` is not an error."""
    dotenv.write_text("WEB_THREADS\nTRIGGER_SECRET_KEY=a\nPRIVY_PROJECT_SECRET=b\n")
    assert Config.load().web_threads == 64


def in_settings():
    """Return what the table in `docs/settings.md` says of each setting."""
    page = (ROOT / "docs" / "settings.md").read_text()
    rows = re.findall(r"^\| (`[A-Z_`, ]+) \|(.*)", page, re.MULTILINE)
    return {name: text for names, text in rows for name in re.findall("[A-Z_]+", names)}


def in_example():
    """Return what `.env.example` says above each setting."""
    pairs = re.findall(r"((?:#.*\n)+)([A-Z_]+)=\n", (ROOT / ".env.example").read_text())
    return {name: text for text, name in pairs}


@pytest.mark.parametrize("described", [in_settings, in_example])
def test_each_setting_is_described_with_its_default(described):
    """Whoever sets one up by these pages gets what the service does without it."""
    texts = described()
    for name in SETTINGS:
        default = getattr(load(), name.lower())
        if default is None or name in REQUIRED:
            assert name in texts
        else:
            told = f"{default:g}" if isinstance(default, float) else str(default)
            told = told.lower() if isinstance(default, bool) else told
            assert re.search(rf"(?<![\w/]){re.escape(told)}(?![\w/])", texts[name]), name
