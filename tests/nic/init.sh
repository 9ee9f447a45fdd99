#!/bin/busybox sh
# The guest's first program: modules, the host's files read-only under a layer of memory, the job.
bb=/bin/busybox
$bb mount -t devtmpfs none /dev
$bb mount -t proc none /proc
$bb mount -t sysfs none /sys
for module in /modules/*.ko; do $bb insmod $module 2>/dev/null; done
$bb mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 host /host
$bb mount -t tmpfs none /top
$bb mkdir /top/upper /top/work
$bb mount -t overlay -o lowerdir=/host,upperdir=/top/upper,workdir=/top/work none /root
$bb mount --move /dev /root/dev
$bb mount --move /proc /root/proc
$bb mount --move /sys /root/sys
$bb mount -t tmpfs none /root/tmp
$bb mount -t tmpfs none /root/run
$bb mkdir -p /root/dev/hugepages /root/tmp/job
$bb mount -t hugetlbfs none /root/dev/hugepages
$bb mount -t 9p -o trans=virtio,version=9p2000.L,cache=none,msize=262144 job /root/tmp/job
$bb chroot /root /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root bash /tmp/job/job.sh >/root/dev/ttyS0 2>&1
$bb sync
echo o >/root/proc/sysrq-trigger
$bb sleep 60
