"""An application that logs its users in at Handstamp: server.py LIBRARY --issuer URL --client-id ID --client-secret SECRET --port PORT

GET /login logs in, GET /me shows who is logged in, as the library tells, GET /refresh asks for new tokens where the library does, and GET /logout logs out.
Each library is set up as its own guide has it.
"""

import argparse
import os
import secrets
from urllib.parse import urlencode
from wsgiref.simple_server import WSGIRequestHandler, make_server

parser = argparse.ArgumentParser()
parser.add_argument("library")
for name in ("issuer", "client-id", "client-secret", "port"):
    parser.add_argument("--" + name, required=True)
args = parser.parse_args()
base = f"http://localhost:{args.port}"


metadata = args.issuer + "/.well-known/openid-configuration"


def differ(before, after):
    """Makes sure that a refresh gave another token."""
    if not after or before == after:
        raise RuntimeError("the refresh gave no new access token")


def authlib_flask():
    """https://docs.authlib.org: the Flask client, by the server's metadata. It sends no PKCE unless told to."""
    from authlib.integrations.flask_client import OAuth
    from flask import Flask, jsonify, redirect, session

    app = Flask(__name__)
    app.secret_key = secrets.token_hex()
    tokens = {}

    def update_token(_, token, refresh_token=None, access_token=None):
        tokens.update(token)

    oauth = OAuth(app, update_token=update_token)
    oauth.register(
        "handstamp",
        client_id=args.client_id,
        client_secret=args.client_secret,
        server_metadata_url=metadata,
        client_kwargs={"scope": "openid email profile"},
    )

    @app.get("/login")
    def login():
        return oauth.handstamp.authorize_redirect(base + "/callback")

    @app.get("/callback")
    def callback():
        token = oauth.handstamp.authorize_access_token()
        tokens.update(token)
        session["user"] = token["userinfo"]  # of the ID token
        return redirect("/me")

    @app.get("/me")
    def me():
        return jsonify(session.get("user", {}))

    @app.get("/refresh")
    def refresh():
        before = tokens["access_token"]
        answer = oauth.handstamp.get(args.issuer + "/oauth2/userinfo", token={**tokens, "expires_at": 1})
        answer.raise_for_status()
        differ(before, tokens["access_token"])
        return redirect("/me")

    @app.get("/logout")
    def logout():
        session.clear()
        return oauth.handstamp.logout_redirect(base + "/me", id_token_hint=tokens["id_token"])

    return app


def authlib_starlette():
    """https://docs.authlib.org: the Starlette client."""
    from authlib.integrations.starlette_client import OAuth
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.sessions import SessionMiddleware
    from starlette.responses import JSONResponse, RedirectResponse
    from starlette.routing import Route

    tokens = {}

    async def update_token(_, token, refresh_token=None, access_token=None):
        tokens.update(token)

    oauth = OAuth(update_token=update_token)
    oauth.register(
        "handstamp",
        client_id=args.client_id,
        client_secret=args.client_secret,
        server_metadata_url=metadata,
        client_kwargs={"scope": "openid email profile", "code_challenge_method": "S256"},
    )

    async def login(request):
        return await oauth.handstamp.authorize_redirect(request, base + "/callback")

    async def callback(request):
        token = await oauth.handstamp.authorize_access_token(request)
        tokens.update(token)
        request.session["user"] = dict(token["userinfo"])
        return RedirectResponse("/me")

    async def me(request):
        return JSONResponse(request.session.get("user", {}))

    async def refresh(_):
        before = tokens["access_token"]
        answer = await oauth.handstamp.get(args.issuer + "/oauth2/userinfo", token={**tokens, "expires_at": 1})
        answer.raise_for_status()
        differ(before, tokens["access_token"])
        return RedirectResponse("/me")

    async def logout(request):
        request.session.clear()
        return await oauth.handstamp.logout_redirect(request, base + "/me", id_token_hint=tokens["id_token"])

    return Starlette(
        routes=[Route("/" + run.__name__, run) for run in (login, callback, me, refresh, logout)],
        middleware=[Middleware(SessionMiddleware, secret_key=secrets.token_hex())],
    )


def flask_oidc():
    """https://flask-oidc.readthedocs.io: the example, whose client_secrets.json is a dictionary here. It sends no PKCE."""
    from flask import Flask, g, redirect, session, url_for
    from flask_oidc import OpenIDConnect

    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=secrets.token_hex(),
        OIDC_CLIENT_SECRETS={
            "web": {"client_id": args.client_id, "client_secret": args.client_secret, "issuer": args.issuer},
        },
        OIDC_SCOPES="openid email profile",
    )
    oidc = OpenIDConnect(app)

    @app.get("/")
    def index():
        return redirect("/me")

    @app.get("/me")
    def me():
        if not oidc.user_loggedin:
            return {}
        return g.oidc_user.profile

    @app.get("/refresh")
    def refresh():
        session["before"] = session["oidc_auth_token"]["access_token"]
        session["oidc_auth_token"] = {**session["oidc_auth_token"], "expires_at": 1}
        return redirect(url_for("refreshed"))  # before which the library refreshes

    @app.get("/refreshed")
    def refreshed():
        differ(session["before"], oidc.get_access_token())
        return redirect("/me")

    return app


def requests_oauthlib():
    """https://requests-oauthlib.readthedocs.io: the web application flow. It knows nothing of OpenID Connect."""
    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # as the guide has it for a service without https
    from flask import Flask, jsonify, redirect, request, session
    from requests_oauthlib import OAuth2Session

    app = Flask(__name__)
    app.secret_key = secrets.token_hex()
    tokens = {}

    @app.get("/login")
    def login():
        client = OAuth2Session(args.client_id, redirect_uri=base + "/callback", scope=["openid", "email", "profile"])
        address, session["state"] = client.authorization_url(args.issuer + "/oauth2/authorize")
        return redirect(address)

    @app.get("/callback")
    def callback():
        client = OAuth2Session(args.client_id, state=session["state"], redirect_uri=base + "/callback")
        tokens.update(
            client.fetch_token(
                args.issuer + "/oauth2/token", client_secret=args.client_secret, authorization_response=request.url
            )
        )
        return redirect("/me")

    @app.get("/me")
    def me():
        if not tokens:
            return {}
        return jsonify(OAuth2Session(args.client_id, token=tokens).get(args.issuer + "/oauth2/userinfo").json())

    @app.get("/refresh")
    def refresh():
        before = tokens["access_token"]
        client = OAuth2Session(
            args.client_id,
            token={**tokens, "expires_in": -30, "expires_at": 1},
            auto_refresh_url=args.issuer + "/oauth2/token",
            auto_refresh_kwargs={"client_id": args.client_id, "client_secret": args.client_secret},
            token_updater=tokens.update,
        )
        client.get(args.issuer + "/oauth2/userinfo").raise_for_status()
        differ(before, tokens["access_token"])
        return redirect("/me")

    @app.get("/logout")
    def logout():
        hint = tokens["id_token"]
        tokens.clear()
        return redirect(args.issuer + "/oauth2/logout?" + urlencode({"id_token_hint": hint, "post_logout_redirect_uri": base + "/me"}))

    return app


def django(**settings_of_library):
    from django.conf import settings
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application

    apps, middleware = settings_of_library.pop("apps"), settings_of_library.pop("middleware")
    settings.configure(
        DEBUG=True,
        SECRET_KEY=secrets.token_hex(),
        ALLOWED_HOSTS=["localhost"],
        ROOT_URLCONF="urls",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}},
        EMAIL_BACKEND="django.core.mail.backends.dummy.EmailBackend",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
            *apps,
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            *middleware,
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        LOGIN_REDIRECT_URL="/me",
        **settings_of_library,
    )
    app = get_wsgi_application()
    call_command("migrate", verbosity=0)
    return app


def mozilla_django_oidc():
    """https://mozilla-django-oidc.readthedocs.io: the quick start, with RS256 as it advises, its renewal and its logout at the provider."""
    return django(
        apps=["mozilla_django_oidc"],
        middleware=["mozilla_django_oidc.middleware.SessionRefresh"],
        AUTHENTICATION_BACKENDS=["mozilla_django_oidc.auth.OIDCAuthenticationBackend"],
        OIDC_RP_CLIENT_ID=args.client_id,
        OIDC_RP_CLIENT_SECRET=args.client_secret,
        OIDC_RP_SIGN_ALGO="RS256",
        OIDC_OP_JWKS_ENDPOINT=args.issuer + "/.well-known/jwks.json",
        OIDC_OP_AUTHORIZATION_ENDPOINT=args.issuer + "/oauth2/authorize",
        OIDC_OP_TOKEN_ENDPOINT=args.issuer + "/oauth2/token",
        OIDC_OP_USER_ENDPOINT=args.issuer + "/oauth2/userinfo",
        OIDC_STORE_ID_TOKEN=True,
        ALLOW_LOGOUT_GET_METHOD=True,
        OIDC_OP_LOGOUT_URL_METHOD="urls.logout_at_provider",
        LOGOUT_AT_PROVIDER=args.issuer + "/oauth2/logout",
        LOGOUT_RETURNS_TO=base + "/me",
        LOGIN_REDIRECT_URL_FAILURE="/me",
        LOGOUT_REDIRECT_URL="/me",
    )


def django_allauth():
    """https://docs.allauth.org: the provider for OpenID Connect."""
    return django(
        apps=["allauth", "allauth.account", "allauth.socialaccount", "allauth.socialaccount.providers.openid_connect"],
        middleware=["allauth.account.middleware.AccountMiddleware"],
        AUTHENTICATION_BACKENDS=["allauth.account.auth_backends.AuthenticationBackend"],
        SOCIALACCOUNT_LOGIN_ON_GET=True,
        ACCOUNT_LOGOUT_ON_GET=True,
        ACCOUNT_LOGOUT_REDIRECT_URL="/me",
        SOCIALACCOUNT_PROVIDERS={
            "openid_connect": {
                "OAUTH_PKCE_ENABLED": True,
                "APPS": [
                    {
                        "provider_id": "handstamp",
                        "name": "Handstamp",
                        "client_id": args.client_id,
                        "secret": args.client_secret,
                        "settings": {"server_url": args.issuer},
                    }
                ],
            }
        },
    )


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


app = {
    "authlib-flask": authlib_flask,
    "authlib-starlette": authlib_starlette,
    "flask-oidc": flask_oidc,
    "requests-oauthlib": requests_oauthlib,
    "mozilla-django-oidc": mozilla_django_oidc,
    "django-allauth": django_allauth,
}[args.library]()
if args.library == "authlib-starlette":
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            print("listening on " + base, flush=True)

    Server(uvicorn.Config(app, host="localhost", port=int(args.port), log_level="error")).run()
else:
    with make_server("localhost", int(args.port), app, handler_class=Quiet) as server:
        print("listening on " + base, flush=True)
        server.serve_forever()
