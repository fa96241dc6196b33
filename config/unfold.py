"""The look of the admin: sidebar, colours and the overview page."""

from typing import Any

from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse


def _link(name: str) -> Any:
    """A sidebar link resolved at request time, so a missing page breaks nothing."""

    def resolve(request: Any) -> str:
        try:
            return reverse(name)
        except NoReverseMatch:
            return reverse("admin:index")

    return resolve


def _item(title: str, icon: str, name: str) -> dict[str, Any]:
    """An entry of the sidebar; a list is shown to those who may view it."""
    item = {"title": title, "icon": icon, "link": _link(name)}
    if name.endswith("_changelist"):
        app, model = name.removeprefix("admin:").removesuffix("_changelist").rsplit("_", 1)
        permission = f"{app}.view_{model}"
        item["permission"] = lambda request: request.user.has_perm(permission)
    return item


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Aviary",
    "SITE_HEADER": "Aviary",
    "SITE_SYMBOL": "hub",
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "sizes": "any",
            "type": "image/svg+xml",
            "href": lambda request: static("config/favicon.svg"),
        }
    ],
    "STYLES": [lambda request: static("config/aviary.css")],
    "SCRIPTS": [
        lambda request: static("config/acts.js"),
        lambda request: static("config/landmarks.js"),
    ],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "config.overview.add_overview",
    "COLORS": {
        "primary": {
            "50": "240 253 250",
            "100": "204 251 241",
            "200": "153 246 228",
            "300": "94 234 212",
            "400": "45 212 191",
            "500": "20 184 166",
            "600": "15 118 110",
            "700": "17 94 89",
            "800": "19 78 74",
            "900": "19 78 74",
            "950": "4 47 46",
        }
    },
    "ACCOUNT": {
        "navigation": [
            {"title": "Second factor", "icon": "security", "link": _link("mfa_index")},
        ]
    },
    "SIDEBAR": {
        "show_search": True,
        "show_all_applications": True,
        "navigation": [
            {
                "items": [
                    _item("Overview", "dashboard", "admin:index"),
                    _item("Models", "deployed_code", "admin:registry_model_changelist"),
                    _item("Versions", "history", "admin:registry_version_changelist"),
                    _item("Data sets", "dataset", "admin:registry_dataset_changelist"),
                    _item("Compression", "compress", "admin:compression_job_changelist"),
                    _item("Fleet samples", "science", "admin:fleet_calibrationbuild_changelist"),
                    _item("Devices", "memory", "admin:fleet_device_changelist"),
                    _item("Join tokens", "key", "admin:fleet_jointoken_changelist"),
                    _item("Agent wheels", "deployed_code", "admin:fleet_agentwheel_changelist"),
                    _item("Deployments", "conversion_path", "admin:fleet_deployment_changelist"),
                    _item("Rollouts", "rocket_launch", "admin:fleet_rollout_changelist"),
                    _item("Drift", "monitoring", "admin:ingest_driftevaluation_changelist"),
                    _item("Alerts", "notifications", "admin:ingest_incident_changelist"),
                    _item("Channels", "campaign", "admin:notifications_channel_changelist"),
                    _item("Notification rules", "rule", "admin:notifications_rule_changelist"),
                    _item("Deliveries", "outbox", "admin:notifications_delivery_changelist"),
                    _item("Storage", "database", "storage"),
                    _item("Audit", "fact_check", "admin:registry_auditevent_changelist"),
                    _item("People", "group", "admin:auth_user_changelist"),
                    _item("API tokens", "vpn_key", "admin:knox_authtoken_changelist"),
                    _item("API", "api", "docs"),
                ]
            }
        ],
    },
}
