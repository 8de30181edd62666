"""A ROS 2 node: images in, where the camera is in the map out, by a `relocalize serve`.

    python relocalize_node.py --ros-args -p url:=http://localhost:8000 -p place:=kitchen \
        -r image/compressed:=/camera/image_raw/compressed -r camera_info:=/camera/camera_info

Publishes ``pose`` (PoseWithCovarianceStamped, frame ``map``: REP 105) for every image that is
localized, and ``status`` (DiagnosticStatus) for every image that is asked about. One image is asked
about at a time; those that come meanwhile are left out.
"""

from __future__ import annotations

import threading
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from pose_message import PoseNumbers, camera_of, pose_numbers
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage

from relocalize_client import Client, RefusedError


class RelocalizeNode(Node):  # type: ignore[misc]  # rclpy has no types
    """Asks the service, publishes what it answers."""

    def __init__(self) -> None:
        super().__init__("relocalize")
        url = self.declare_parameter("url", "http://localhost:8000").value
        token = self.declare_parameter("token", "").value
        self._place = self.declare_parameter("place", "").value
        self._map = self.declare_parameter("map_frame", "map").value
        self._client = Client(url, token=token or None)
        self._camera: dict[str, Any] | None = None
        self._busy = threading.Lock()
        self._poses = self.create_publisher(PoseWithCovarianceStamped, "pose", 10)
        self._statuses = self.create_publisher(DiagnosticStatus, "status", 10)
        self.create_subscription(
            CompressedImage, "image/compressed", self._image, qos_profile_sensor_data
        )
        self.create_subscription(
            CameraInfo, "camera_info", self._camera_info, qos_profile_sensor_data
        )

    def _camera_info(self, info: Any) -> None:
        self._camera = camera_of(
            info.width, info.height, list(info.k), list(info.d), info.distortion_model
        )

    def _image(self, image: Any) -> None:
        if self._busy.acquire(blocking=False):
            threading.Thread(target=self._ask, args=(image,), daemon=True).start()

    def _ask(self, image: Any) -> None:
        try:
            answer = self._client.localize(self._place, bytes(image.data), camera=self._camera)
        except (RefusedError, OSError) as error:
            self._say(DiagnosticStatus.ERROR, str(error))
        else:
            numbers = pose_numbers(answer)
            if numbers is None:
                self._say(DiagnosticStatus.WARN, answer["reason"])
            else:
                self._publish(image.header.stamp, numbers)
                self._say(DiagnosticStatus.OK, "localized")
        finally:
            self._busy.release()

    def _publish(self, stamp: Any, numbers: PoseNumbers) -> None:
        message = PoseWithCovarianceStamped()
        message.header.stamp, message.header.frame_id = stamp, self._map
        pose = message.pose.pose
        pose.position.x, pose.position.y, pose.position.z = numbers.position
        orientation = pose.orientation
        orientation.x, orientation.y, orientation.z, orientation.w = numbers.quat_xyzw
        message.pose.covariance = list(numbers.covariance)
        self._poses.publish(message)

    def _say(self, level: Any, text: str) -> None:
        self._statuses.publish(DiagnosticStatus(level=level, name="relocalize", message=text))


def main() -> None:
    """Until Ctrl-C."""
    rclpy.init()
    rclpy.spin(RelocalizeNode())


if __name__ == "__main__":
    main()
