"""Apps as their visitors see them, and the programs that are kept for that."""

import functools
import re


def web(client, path, body=None, method=None, headers=None, *, name):
    """The page of an app, by the web door."""
    method = method or ("GET" if body is None else "POST")
    return client.request(method, f"/web/{name}{path}", body, headers=headers)


def instances(client, name):
    """run id: the rest of its line; and the facts."""
    text = client.get(f"/apps/{name}/instances").text
    facts = dict(re.findall(r"^(starts|failures|last failure): (.*)$", text, re.M))
    return dict(re.findall(r"^instance: run (\d+), (.*)$", text, re.M)), facts


def of_app(name):
    """Both, of this app where none is named."""
    return functools.partial(web, name=name), (
        lambda client, name=name: instances(client, name))
