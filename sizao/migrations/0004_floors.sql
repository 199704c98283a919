-- Floors are numbered as people count them (-1 is the first below ground), so that what lies above
-- a fire can be found; a floor's name says nothing that sorts.
ALTER TABLE area ADD COLUMN floor smallint CHECK (floor BETWEEN -20 AND 200);
ALTER TABLE area ADD CHECK (floor IS NULL OR level = 'floor');
