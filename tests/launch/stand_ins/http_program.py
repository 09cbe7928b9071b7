"""A stand-in that answers HTTP on one port of this machine. Imports little: it starts in a tenth of a second."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def serve(port, routes):
    """routes: {(method, first part of the path): function(rest of the path, body) -> JSON value or None for 404}."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self):
            first, _, rest = self.path.strip("/").partition("/")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = routes.get((self.command, first), lambda *_: None)(rest, json.loads(body or "null"))
            self.send_response(404 if answer is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_GET = do_POST = _answer

        def log_message(self, *_):
            pass

    ThreadingHTTPServer.allow_reuse_address = True
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
