"""``/assets/{version}/{name}``: the files of our pages, which browsers may keep.

Touches: nothing itself.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from controller.service.problems import not_found
from controller.service.web.assets import assets, version
from controller.service.web.pages import PageRoute, takes_gzip

FOREVER = "public, max-age=31536000, immutable"

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/assets/{of_version}/{name:path}")
async def get_asset(request: Request, of_version: str, name: str) -> Response:
    """Return a file. An address of another version gets the file as it is here: replicas change one after the other."""
    asset = assets().get(name)
    if asset is None:
        raise not_found("file", "load the page again")
    headers = {"Cache-Control": FOREVER if of_version == version() else "no-cache", "Vary": "Accept-Encoding"}
    if not takes_gzip(request):
        return Response(asset.body, headers=headers, media_type=asset.media_type)
    return Response(asset.packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=asset.media_type)
