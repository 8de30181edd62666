#!/bin/sh
# Where was a photo taken?  sh ask.sh kitchen photo.jpg
set -e
service=${SERVICE:-http://localhost:8000}
curl --silent --show-error --data-binary "@$2" "$service/v1/places/$1/localize"
echo
# With intrinsics that are known exactly, the token of a service that wants one, and Unity's axes:
#   curl -G --data-urlencode 'camera={"model": "PINHOLE", "params": [525, 525, 320, 240]}' ...
#   curl -H "Authorization: Bearer $(cat token)" --data-binary @photo.jpg \
#     "$service/v1/places/kitchen/localize?axes=unity"
