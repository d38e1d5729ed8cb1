# Tells a web service what happened: a POST of JSON, with a secret that this program never sees.
# Arguments: the URL, and the text.
import net_http  # first
import json
import sys
import urllib.request

request = urllib.request.Request(
    sys.argv[1],
    data=json.dumps({"text": sys.argv[2]}).encode(),
    headers={"Content-Type": "application/json", "Authorization": "Bearer @WEBHOOK"})
with urllib.request.urlopen(request, timeout=10) as response:
    print(response.status, response.read().decode())
