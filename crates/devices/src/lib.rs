//! What a guest can touch: memory, buses, PCI, virtio, serial. Knows no KVM and no cloud.
