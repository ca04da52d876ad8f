"""An application that logs its users in at Handstamp: server.py LIBRARY --issuer URL --client-id ID --client-secret SECRET --port PORT

GET /login logs in, and GET /me shows who is logged in, as the library tells. Each library is set up as its own guide has it.
"""

import argparse
import os
import secrets
from wsgiref.simple_server import WSGIRequestHandler, make_server

parser = argparse.ArgumentParser()
parser.add_argument("library")
for name in ("issuer", "client-id", "client-secret", "port"):
    parser.add_argument("--" + name, required=True)
args = parser.parse_args()
base = f"http://localhost:{args.port}"


def authlib():
    """https://docs.authlib.org: the Flask client, by the server's metadata. It sends no PKCE unless told to."""
    from authlib.integrations.flask_client import OAuth
    from flask import Flask, jsonify, redirect, session

    app = Flask(__name__)
    app.secret_key = secrets.token_hex()
    oauth = OAuth(app)
    oauth.register(
        "handstamp",
        client_id=args.client_id,
        client_secret=args.client_secret,
        server_metadata_url=args.issuer + "/.well-known/openid-configuration",
        client_kwargs={"scope": "openid email profile"},
    )

    @app.get("/login")
    def login():
        return oauth.handstamp.authorize_redirect(base + "/callback")

    @app.get("/callback")
    def callback():
        session["user"] = oauth.handstamp.authorize_access_token()["userinfo"]  # of the ID token
        return redirect("/me")

    @app.get("/me")
    def me():
        return jsonify(session.get("user", {}))

    return app


def django():
    """https://mozilla-django-oidc.readthedocs.io: the quick start, with RS256 as it advises."""
    from django.conf import settings
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application

    settings.configure(
        DEBUG=True,
        SECRET_KEY=secrets.token_hex(),
        ALLOWED_HOSTS=["localhost"],
        ROOT_URLCONF="urls",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "mozilla_django_oidc",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        AUTHENTICATION_BACKENDS=["mozilla_django_oidc.auth.OIDCAuthenticationBackend"],
        OIDC_RP_CLIENT_ID=args.client_id,
        OIDC_RP_CLIENT_SECRET=args.client_secret,
        OIDC_RP_SIGN_ALGO="RS256",
        OIDC_OP_JWKS_ENDPOINT=args.issuer + "/.well-known/jwks.json",
        OIDC_OP_AUTHORIZATION_ENDPOINT=args.issuer + "/oauth2/authorize",
        OIDC_OP_TOKEN_ENDPOINT=args.issuer + "/oauth2/token",
        OIDC_OP_USER_ENDPOINT=args.issuer + "/oauth2/userinfo",
        LOGIN_REDIRECT_URL="/me",
        LOGIN_REDIRECT_URL_FAILURE="/me",
    )
    app = get_wsgi_application()
    call_command("migrate", verbosity=0)
    return app


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


app = {"authlib": authlib, "mozilla-django-oidc": django}[args.library]()
with make_server("localhost", int(args.port), app, handler_class=Quiet) as server:
    print("listening on " + base, flush=True)
    server.serve_forever()
