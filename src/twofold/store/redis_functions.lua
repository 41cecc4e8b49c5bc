#!lua name=LIBRARY

-- What the store on Redis does inside the server, each function atomic. The store puts a name made from this text in place of LIBRARY, so
-- that two versions of it live side by side; a library of a name is never changed.

local PIECE = 2000 -- even, for pairs; Lua's stack takes less than 8,000 values

local function in_pieces(command, key, list, first, last)
  local count = 0
  for from = first, last, PIECE do
    count = count + redis.call(command, key, unpack(list, from, math.min(from + PIECE - 1, last)))
  end
  return count
end

-- Commits to one shard.
-- keys: entries (hash), members (sorted set of the entries' keys, all of one score)
-- args: field of the version, version expected ('': none), new version, number of puts, then key and value of each put, then keys to delete
local function commit(keys, args)
  local version = redis.call('HGET', keys[1], args[1]) or ''
  if version == args[3] then return 'already' end
  if version ~= args[2] then return 'conflict' end
  local deleted = 5 + 2 * tonumber(args[4])
  if in_pieces('HSET', keys[1], args, 5, deleted - 1) > 0 then
    local members = {}
    for at = 5, deleted - 1, 2 do
      members[#members + 1] = '0'
      members[#members + 1] = args[at]
    end
    in_pieces('ZADD', keys[2], members, 1, #members)
  end
  in_pieces('HDEL', keys[1], args, deleted, #args)
  in_pieces('ZREM', keys[2], args, deleted, #args)
  redis.call('HSET', keys[1], args[1], args[3])
  return 'done'
end

-- The version of a shard, then key and value of each entry from `from` to `to` (as ZRANGEBYLEX has them), at most `limit` (-1: all).
-- keys: entries, members; args: field of the version, from, to, limit
local function scan(keys, args)
  local found = redis.call('ZRANGEBYLEX', keys[2], args[2], args[3], 'LIMIT', 0, args[4])
  local reply = { redis.call('HGET', keys[1], args[1]) }
  for first = 1, #found, PIECE do
    local values = redis.call('HMGET', keys[1], unpack(found, first, math.min(first + PIECE - 1, #found)))
    for at = 1, #values do
      reply[#reply + 1] = found[first + at - 1]
      reply[#reply + 1] = values[at]
    end
  end
  return reply
end

-- A generation's record is *loose* while its buckets may lie in the server with no name: 'w' .. record while its writer ends its work, with
-- the instant (s) at which the writer counts as dead; 'd' .. record when nobody will publish it any more.
-- keys: generations (hash, name -> record), loose (hash)

-- args: record of a generation that is about to be published, seconds that this may take
local function announce(keys, args)
  return redis.call('HSET', keys[2], 'w' .. args[1], redis.call('TIME')[1] + args[2])
end

-- Gives a name to a generation, or takes it away; whose place it takes is loose. 0 where its writer counts as dead.
-- args: name, record ('': only take the name away)
local function publish(keys, args)
  local before = redis.call('HGET', keys[1], args[1])
  if before == args[2] then return 1 end -- asked a second time
  if args[2] == '' then
    redis.call('HDEL', keys[1], args[1])
  else
    if redis.call('HDEL', keys[2], 'w' .. args[2]) == 0 then return 0 end
    redis.call('HSET', keys[1], args[1], args[2])
  end
  if before then redis.call('HSET', keys[2], 'd' .. before, 0) end
  return 1
end

-- Records of generations that nobody will publish any more.
local function condemned(keys, args)
  local now, reply = tonumber(redis.call('TIME')[1]), {}
  local loose = redis.call('HGETALL', keys[2])
  for at = 1, #loose, 2 do
    local record = string.sub(loose[at], 2)
    if tonumber(loose[at + 1]) <= now then
      if string.sub(loose[at], 1, 1) == 'w' then
        redis.call('HDEL', keys[2], loose[at])
        redis.call('HSET', keys[2], 'd' .. record, 0)
      end
      reply[#reply + 1] = record
    end
  end
  return reply
end

-- What frees memory is done also where it is full.
redis.register_function('LIBRARY_commit', commit)
redis.register_function { function_name = 'LIBRARY_commit_deletes', callback = commit, flags = { 'allow-oom' } }
redis.register_function { function_name = 'LIBRARY_scan', callback = scan, flags = { 'no-writes' } }
redis.register_function('LIBRARY_announce', announce)
redis.register_function { function_name = 'LIBRARY_publish', callback = publish, flags = { 'allow-oom' } }
redis.register_function { function_name = 'LIBRARY_condemned', callback = condemned, flags = { 'allow-oom' } }
