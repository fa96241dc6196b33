"""Serves one file over loopback HTTP from memory, so that its disk is no part of a figure."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


def main(path: str) -> None:
    content = Path(path).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}/blob", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
