"""Large objects on one host: written once into shared memory, mapped by whoever reads them.

A *segment* is a file in memory without a name (`memfd_create`). Whoever has it open can be asked for it as
`/proc/<pid>/fd/<descriptor>`, which the kernel permits to processes of the same user that see each other; so there is
nothing to guess, nothing to remove, and nothing is left behind however a process ends. Who uses a segment holds a
shared lock (`flock`) on it, and the kernel drops it with the last mapping or with the process: the writer may use a
segment again when it gets the exclusive lock. Segments are used again because memory that was touched before takes a
copy ten times as fast.

    object storage server   Offer                     says where proof lies that a peer is on the same host
    writer                  accept_offer, SegmentPool copies an object into a segment, and says its `Place`
    object storage server   adopt                     maps it and holds the lock for as long as the object lives
    reader                  SegmentReader             maps it, privately: arrays are writable and nobody else sees it

Only where `supported()`: Linux. Elsewhere, on another host, in another container or as another user, bytes take the socket.
"""

from scaler_protocol.objects.segments.layout import SEGMENT_BYTES_MIN, supported
from scaler_protocol.objects.segments.offer import Offer, accept_offer
from scaler_protocol.objects.segments.place import PLACE_BYTES, Place, pack_place, unpack_place
from scaler_protocol.objects.segments.pool import Lease, SegmentPool
from scaler_protocol.objects.segments.reading import Adopted, SegmentReader, adopt

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
    "pack_place",
    "supported",
    "unpack_place",
]
