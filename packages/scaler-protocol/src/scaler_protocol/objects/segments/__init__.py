"""Large objects on one host: written once into shared memory, which readers map.

A *segment* is a file in memory without a name (`memfd_create`). Other processes open it as `/proc/<pid>/fd/<descriptor>`
of a process that has it open; the kernel permits this to processes of the same user that see each other. So no name can
be guessed, and nothing is left behind, however a process ends. A process that uses a segment holds a shared lock
(`flock`) on it, which the kernel releases with the last mapping or with the process. The writer may use a segment again
when it gets the exclusive lock. It does so because copying into memory that was used before is ten times as fast.

    object storage server   Offer                     says where its secret is, which only peers on its host can read
    writer                  accept_offer, SegmentPool copies an object into a segment, and sends its `Place`
    object storage server   adopt                     maps it and holds the lock for as long as the object lives
    reader                  SegmentReader             maps it privately: arrays are writable, nobody else sees the changes

Only if `supported()`, which means on Linux. On other systems, and for peers on another host, in another container or of
another user, the bytes travel through the socket.
"""

from scaler_protocol.objects.segments.layout import SEGMENT_BYTES_MIN, supported
from scaler_protocol.objects.segments.offer import Offer, accept_offer
from scaler_protocol.objects.segments.place import PLACE_BYTES, Place, pack_place, unpack_place
from scaler_protocol.objects.segments.pool import Lease, SegmentPool
from scaler_protocol.objects.segments.reading import Adopted, SegmentReader, adopt, mark_taken

__all__ = [
    "PLACE_BYTES",
    "SEGMENT_BYTES_MIN",
    "Adopted",
    "Lease",
    "Offer",
    "Place",
    "SegmentPool",
    "SegmentReader",
    "accept_offer",
    "adopt",
    "mark_taken",
    "pack_place",
    "supported",
    "unpack_place",
]
