"""What a removed app leaves: nothing, though its runs are still kept."""


def volumes(server):
    return sorted(path.name for path in (server.state / "volumes").glob("*.db*"))


def modules(server):
    return sorted(path.name for path in (server.state / "modules").iterdir())


def test_files_of_a_removed_app_go(make_server, guests, eventually):
    server = make_server()
    client = server.client
    client.create("doomed", guests.c("probe"))
    identifier = client.run("doomed", "put", "/note", "x" * 1000).headers["run-id"]
    assert volumes(server), "the run has written nothing?"
    assert client.get(f"/proc/{identifier}/status").status == 200  # kept for ten minutes
    assert client.delete("/apps/doomed").status == 204
    eventually(lambda: not volumes(server))
    eventually(lambda: not modules(server))
    assert client.get(f"/proc/{identifier}/status").status == 404
    assert client.get("/apps/doomed").status == 404


def test_a_run_of_a_removed_app_goes_on(make_server, guests, eventually):
    server = make_server()
    client = server.client
    client.create("doomed", guests.c("probe"))
    client.run("doomed", "put", "/note", "kept")
    identifier = client.post("/run?name=doomed&arg=wait&detach&stdin=open").text.strip()
    eventually(lambda: "waiting" in client.get(f"/proc/{identifier}/log").text)
    assert client.delete("/apps/doomed").status == 204
    assert "ended" not in client.get(f"/proc/{identifier}/status").text
    assert client.delete(f"/proc/{identifier}/stdin").status == 204
    eventually(lambda: client.get(f"/proc/{identifier}/status").status == 404)
    eventually(lambda: not volumes(server))
