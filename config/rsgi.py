"""The application as the web server loads it: `config.rsgi:application`."""

from config.wsgi import application as wsgi_application


def _make_application() -> object:
    # Imported when the apps are loaded: the front asks the database whom it reads bodies of.
    from config.front.application import Front

    return Front(wsgi_application)


application = _make_application()
