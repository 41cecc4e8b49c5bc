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

-- A shard is two keys, entries (hash) and members (sorted set of the entries' keys, all of one score); a field of the hash is its version.
-- Functions that commit begin with the args: field of the version, version expected ('': none), new version, number of puts.

local function put(keys, list, first, last)
  if in_pieces('HSET', keys[1], list, first, last) > 0 then
    local members = {}
    for at = first, last, 2 do
      members[#members + 1] = '0'
      members[#members + 1] = list[at]
    end
    in_pieces('ZADD', keys[2], members, 1, #members)
  end
end

local function delete(keys, list, first, last)
  in_pieces('HDEL', keys[1], list, first, last)
  in_pieces('ZREM', keys[2], list, first, last)
end

local function refused(keys, args)
  local version = redis.call('HGET', keys[1], args[1]) or ''
  if version == args[3] then return 'already' end
  if version ~= args[2] then return 'conflict' end
end

-- Commits to one shard.
-- keys: entries, members; args: see above, then key and value of each put, then keys to delete
local function commit(keys, args)
  local why = refused(keys, args)
  if why then return why end
  local deleted = 5 + 2 * tonumber(args[4])
  put(keys, args, 5, deleted - 1)
  delete(keys, args, deleted, #args)
  redis.call('HSET', keys[1], args[1], args[3])
  return 'done'
end

-- Takes a part of a commit that is too large for one call. It is kept until it is applied, or for some time.
-- keys: staged (list); args: seconds, length of the list before this part, then key and value of each put, keys to delete
local function stage(keys, args)
  local missing = tonumber(args[2]) - redis.call('LLEN', keys[1])
  if missing == 2 - #args then return 'already' end
  if missing ~= 0 then return 'lost' end
  in_pieces('RPUSH', keys[1], args, 3, #args)
  redis.call('EXPIRE', keys[1], args[1])
  return 'done'
end

local function in_staged_pieces(change, keys, count)
  while count > 0 do
    local list = redis.call('LPOP', keys[3], math.min(PIECE, count))
    change(keys, list, 1, #list)
    count = count - #list
  end
end

-- Commits to one shard what was staged, or refuses it; the list is gone in any case.
-- keys: entries, members, staged; args: see above, then the length of the list
local function commit_staged(keys, args)
  local puts, all = 2 * tonumber(args[4]), tonumber(args[5])
  local why = refused(keys, args)
  if not why and redis.call('LLEN', keys[3]) ~= all then why = 'lost' end
  if why then
    redis.call('UNLINK', keys[3])
    return why
  end
  in_staged_pieces(put, keys, puts)
  in_staged_pieces(delete, keys, all - puts)
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

-- A generation's record is *loose* while its buckets may lie in the server with no name: 'w' .. record while it is written, with the instant
-- (s) at which its writer counts as dead; 'd' .. record when nobody will publish it any more.
-- keys: generations (hash, name -> record), loose (hash)

-- Lets a writer live. 0 where it counts as dead already.
-- args: record of its generation, seconds from now on, 'again' where it has said so before
local function announce(keys, args)
  local field = 'w' .. args[1]
  if args[3] == 'again' and redis.call('HEXISTS', keys[2], field) == 0 then return 0 end
  redis.call('HSET', keys[2], field, redis.call('TIME')[1] + args[2])
  return 1
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
redis.register_function('LIBRARY_stage', stage)
redis.register_function('LIBRARY_commit_staged', commit_staged)
redis.register_function { function_name = 'LIBRARY_commit_deletes', callback = commit, flags = { 'allow-oom' } }
redis.register_function { function_name = 'LIBRARY_scan', callback = scan, flags = { 'no-writes' } }
redis.register_function('LIBRARY_announce', announce)
redis.register_function { function_name = 'LIBRARY_publish', callback = publish, flags = { 'allow-oom' } }
redis.register_function { function_name = 'LIBRARY_condemned', callback = condemned, flags = { 'allow-oom' } }
