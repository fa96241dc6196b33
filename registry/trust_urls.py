"""Addresses of the root of trust, as TUF clients expect them."""

from django.urls import path

from registry import views

urlpatterns = [
    path("introduction", views.trust_introduction, name="trust-introduction"),
    path("targets/manifests/<str:name>", views.trust_target, name="trust-target"),
    path("<str:name>", views.trust_metadata, name="trust-metadata"),
]
