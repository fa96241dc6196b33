"""All addresses: device protocol, management API, objects, health and the admin."""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView

from config import api, api_index, health
from config.retention.page import storage_view

handler400 = api.bad_request
handler500 = api.server_error

# One way in, with one second factor: the page of the admin leads to it.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
    path("api/", include("fleet.polling.urls")),
    path("api/", include("ingest.device_urls")),
    path("api/trust/", include("registry.trust_urls")),
    path("api/v1/", api_index.Index.as_view(), name="api-index"),
    path("api/v1/", include("registry.api.urls")),
    path("api/v1/", include("fleet.api.urls")),
    path("api/v1/", include("ingest.api.urls")),
    path("api/v1/", include("compression.api.urls")),
    path("api/v1/", include("notifications.api.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", api.docs, name="docs"),
    re_path(r"^api/(?P<rest>.*)$", api.api_not_found),
    path("blobs/", include("registry.blob_urls")),
    path("admin/storage/", admin.site.admin_view(storage_view), name="storage"),
    path("accounts/", include("config.sign_in.urls")),
    path("admin/", admin.site.urls),
]
