"""Addresses of blobs."""

from django.urls import path

from registry import views

urlpatterns = [path("<str:sha256>", views.download_blob, name="blob")]
