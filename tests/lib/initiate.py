# SPDX-License-Identifier: Apache-2.0
"""initiate.py: makes a replica set, or a cluster, of real servers that have just started; for `servers`.

    initiate.py set NAME HOST[,HOST…] [--configsvr | --shardsvr]
    initiate.py cluster MONGOS-URI SHARD…        a shard is SET/HOST
"""
import sys
import time

import pymongo
from pymongo.errors import OperationFailure


def initiate(name, hosts, role):
    client = pymongo.MongoClient("mongodb://%s/?directConnection=true" % hosts[0])
    config = {"_id": name, "members": [{"_id": place, "host": host} for place, host in enumerate(hosts)]}
    if len(hosts) > 1:  # elections in seconds
        config["settings"] = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500}
    if role == "--configsvr":
        config["configsvr"] = True
    try:
        client.admin.command("replSetInitiate", config)
    except OperationFailure as error:
        if error.code not in (13, 23):  # AlreadyInitialized, which a stranger is not told
            raise
    # Of a set that was started again any member may become the primary.
    if len(hosts) > 1:
        client = pymongo.MongoClient("mongodb://%s/?replicaSet=%s" % (",".join(hosts), name))
    return wait(client, "isWritablePrimary")


def wait(client, field):
    for _ in range(600):
        answer = client.admin.command("hello")
        if answer.get(field):
            return True
        time.sleep(0.05)
    return False


def cluster(uri, shards):
    client = pymongo.MongoClient(uri)
    known = {shard["_id"] for shard in client.admin.command("listShards")["shards"]}
    for shard in shards:
        if shard.split("/", 1)[0] not in known:
            client.admin.command("addShard", shard)
    client.admin.command("balancerStop")
    return True


def main():
    what, name, *rest = sys.argv[1:]
    good = cluster(name, rest) if what == "cluster" else initiate(name, rest[0].split(","), rest[1] if rest[1:]
                                                                  else None)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
