"""The poses of a video clip in a Place: frames localized, smoothed, written, drawn over it."""

from relocalize.localization.video.clip import ClipSettings, LocalizedClip, localize_clip

__all__ = ["ClipSettings", "LocalizedClip", "localize_clip"]
