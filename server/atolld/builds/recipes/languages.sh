# Runs inside `code-interpreter-v1`, as root: what `setup --all` adds. Its text is part of the root's key.
set -eu

export DEBIAN_FRONTEND=noninteractive APT_CONFIG=/run/atoll/apt.conf
# The recipe `base` leaves out manual pages, and Java's packages link to theirs.
mkdir -p /usr/share/man/man1
apt-get update --quiet
apt-get install --yes --quiet --no-install-recommends --option Dpkg::Options::=--force-unsafe-io $ATOLL_PACKAGES
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt
mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial /var/log/apt

# A sandbox's install.packages() needs no sudo, as its `pip install`.
chown user:user /usr/local/lib/R/site-library

# Classes that every start of Java loads, mapped instead of parsed: the JDK's, and those of our kernel, which this JDK
# compiles.
java -Xshare:dump > /dev/null
mkdir -p /opt/atoll/java
javac -d /tmp/java /run/atoll/java/*.java
jar --create --file /opt/atoll/java/kernel.jar -C /tmp/java .
java -XX:+UseSerialGC -XX:ArchiveClassesAtExit=/opt/atoll/java/kernel.jsa -cp /opt/atoll/java/kernel.jar atoll.Main
rm -rf /tmp/java /tmp/rehearsal* /opt/python/share/jupyter/kernels/java
