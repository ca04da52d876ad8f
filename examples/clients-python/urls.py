"""The addresses of the Django application in server.py."""

from django.http import JsonResponse
from django.shortcuts import redirect
from django.urls import include, path


def me(request):
    return JsonResponse({"email": request.user.email} if request.user.is_authenticated else {})


urlpatterns = [
    path("oidc/", include("mozilla_django_oidc.urls")),
    path("login", lambda request: redirect("oidc_authentication_init")),
    path("me", me),
]
