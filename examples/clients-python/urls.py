"""The addresses of the Django applications in server.py."""

import time
from urllib.parse import urlencode

from django.conf import settings
from django.http import JsonResponse
from django.shortcuts import redirect
from django.urls import include, path


def me(request):
    user = request.user
    return JsonResponse({"name": user.get_full_name(), "email": user.email} if user.is_authenticated else {})


def logout_at_provider(request):
    query = {"id_token_hint": request.session["oidc_id_token"], "post_logout_redirect_uri": settings.LOGOUT_RETURNS_TO}
    return settings.LOGOUT_AT_PROVIDER + "?" + urlencode(query)


def refresh(request):
    request.session["oidc_id_token_expiration"] = time.time() - 1
    return redirect("/me")  # before which the library asks the provider, with prompt=none


urlpatterns = [path("me", me)]
if "mozilla_django_oidc" in settings.INSTALLED_APPS:
    urlpatterns += [
        path("oidc/", include("mozilla_django_oidc.urls")),
        path("login", lambda request: redirect("oidc_authentication_init")),
        path("refresh", refresh),
        path("logout", lambda request: redirect("oidc_logout")),
    ]
else:
    urlpatterns += [
        path("accounts/", include("allauth.urls")),
        path("login", lambda request: redirect("/accounts/oidc/handstamp/login/")),
        path("logout", lambda request: redirect("/accounts/logout/")),
    ]
